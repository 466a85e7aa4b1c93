//! The pages of this program's own code that are mapped into it.

use std::fs;
use std::io;

use nix::sys::mman::{MmapAdvise, madvise};

/// Where a region of code is, from the first address to the one behind the last.
#[derive(Debug, PartialEq, Eq)]
struct CodeRegion {
    start: usize,
    end: usize,
}

impl CodeRegion {
    /// Reads a line of `/proc/self/maps`: addresses, permissions, offset, device, inode, path. Only
    /// what is mapped from the program's file to be executed, and cannot be written, is code.
    fn parse(line: &str, program: &str) -> Option<Self> {
        let (addresses, rest) = line.split_once(' ')?;
        let (permissions, rest) = rest.split_once(' ')?;
        let path = rest.splitn(4, ' ').nth(3)?.trim_start();
        if permissions != "r-xp" || path != program {
            return None;
        }
        let (start, end) = addresses.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some(Self {
            start: address(start)?,
            end: address(end)?,
        })
    }

    /// Takes the region's pages out of this process. They stay in the page cache, and whatever is
    /// executed again is mapped again.
    fn let_go(&self) -> io::Result<()> {
        let start = std::ptr::with_exposed_provenance_mut(self.start);
        let Some(start) = std::ptr::NonNull::new(start) else {
            return Ok(());
        };
        let length = self.end.saturating_sub(self.start);
        // SAFETY: The kernel has just listed the region as a private mapping of the program's file
        // that can be executed and not be written. Code is mapped so when the program is loaded and
        // stays so until it ends: nothing here changes the protection of code or unmaps it, and a
        // position independent program has no relocations in it. Its pages therefore are the
        // file's, which cannot be written while it is executed, and dropping them loses nothing.
        #[allow(unsafe_code)]
        unsafe {
            madvise(start, length, MmapAdvise::MADV_DONTNEED)?;
        }
        Ok(())
    }
}

/// Lets go of the code that is mapped.
///
/// A start goes through most of the program once, and the kernel maps 64 KiB around each place; an
/// idle node executes a small part of it.
///
/// # Errors
/// Those of reading `/proc/self`, and the system's.
pub fn let_go() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let program = program.to_string_lossy();
    let regions = maps
        .lines()
        .filter_map(|line| CodeRegion::parse(line, &program));
    for region in regions {
        region.let_go()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn only_what_is_executed_from_the_programs_file_is_code() {
        let parse = |line| CodeRegion::parse(line, "/opt/a b/node (deleted)");
        assert_eq!(
            parse(
                "5600-56ff r-xp 00021000 fe:00 1234                       /opt/a b/node (deleted)"
            ),
            Some(CodeRegion {
                start: 0x5600,
                end: 0x56ff
            })
        );
        for other in [
            "5600-56ff rwxp 00021000 fe:00 1234                       /opt/a b/node (deleted)",
            "5600-56ff r--p 00021000 fe:00 1234                       /opt/a b/node (deleted)",
            "5600-56ff r-xs 00021000 fe:00 1234                       /opt/a b/node (deleted)",
            "5600-56ff r-xp 00021000 fe:00 1234                       /usr/lib/libc.so.6",
            "5600-56ff r-xp 00000000 00:00 0                          [vdso]",
            "5600-56ff r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    /// The program's code as the kernel lists it: where it is, and how much of it is mapped, in KiB.
    fn own_code() -> (CodeRegion, u64) {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let program = program.to_string_lossy();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines();
        let region = lines.find_map(|line| CodeRegion::parse(line, &program));
        let mapped = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        let mapped = mapped.trim().trim_end_matches(" kB").parse();
        (region.unwrap(), mapped.unwrap())
    }

    #[test]
    fn code_that_was_let_go_is_there_when_it_is_executed() {
        let (region, _) = own_code();
        let mut code = vec![0; region.end - region.start];
        let memory = fs::File::open("/proc/self/mem").unwrap();
        // Whoever reads it this way has all of it mapped; other tests map some of it again.
        memory
            .read_exact_at(&mut code, region.start as u64)
            .unwrap();
        let (_, before) = own_code();
        let_go().unwrap();
        let (_, after) = own_code();
        assert!(after < before, "{before} KiB, then {after} KiB");
        let mut again = vec![0; code.len()];
        memory
            .read_exact_at(&mut again, region.start as u64)
            .unwrap();
        assert!(code == again, "the code is another one");
    }
}
