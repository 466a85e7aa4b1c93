//! Whether this user could change what a path leads to (exec and approvals §10).
//!
//! What cannot be looked at counts as changeable. As root everything is.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{AccessFlags, Uid, access};

/// How much of a file is looked at to tell a binary from a script.
pub(super) const HEADER_BYTES: u64 = 1024;

/// Whether the file, its folder, or a symlink on the way to it could be changed.
pub(super) fn looks_mutable(path: &Path) -> bool {
    let here =
        |path: &Path| is_mutable(path) || is_mutable(parent(path)) || has_mutable_symlink(path);
    here(path) || path.canonicalize().map_or(true, |real| here(&real))
}

/// Whether a component of the path is a symlink that could be replaced.
pub(super) fn has_mutable_symlink(path: &Path) -> bool {
    path.ancestors()
        .any(|component| match component.symlink_metadata() {
            Ok(metadata) => metadata.is_symlink() && is_mutable(parent(component)),
            Err(_) => true,
        })
}

fn is_mutable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
        || path
            .metadata()
            .is_ok_and(|metadata| metadata.uid() == Uid::current().as_raw())
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Whether the file is anything but a known kind of binary, so that something would interpret it.
pub(super) fn is_script_like(path: &Path) -> bool {
    let mut header = Vec::new();
    match super::operand::open(path).map(|file| file.take(HEADER_BYTES).read_to_end(&mut header)) {
        Ok(Ok(_)) => !is_binary(&header),
        Ok(Err(_)) | Err(_) => true,
    }
}

/// ELF, Mach-O in either byte order, 32 or 64 bits, single or universal, and PE.
pub(super) fn is_binary(header: &[u8]) -> bool {
    let magic = header
        .first_chunk::<4>()
        .map(|bytes| u32::from_be_bytes(*bytes));
    let portable_executable = || {
        let offset = header.get(0x3c..0x40)?.first_chunk::<4>()?;
        let offset = usize::try_from(u32::from_le_bytes(*offset)).ok()?;
        header.get(offset..)?.strip_prefix(b"PE\0\0").map(|_| ())
    };
    match magic {
        Some(
            0x7f45_4c46 | 0xfeed_face | 0xcefa_edfe | 0xfeed_facf | 0xcffa_edfe | 0xcafe_babe
            | 0xbeba_feca | 0xcafe_babf | 0xbfba_feca,
        ) => true,
        _ => header.starts_with(b"MZ") && portable_executable().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::scene::Scene;

    #[test]
    fn what_the_user_owns_could_be_changed_and_the_system_only_by_root() {
        let scene = Scene::new();
        scene
            .write("file", "x")
            .link("link", "/bin/echo")
            .folder("d")
            .link("dlink", "d");
        let at = |name: &str| scene.root().join(name);
        for name in ["file", "d", "link", "dlink/none", "none"] {
            assert!(looks_mutable(&at(name)), "{name}");
        }
        let echo = scene.real("echo");
        assert_eq!(looks_mutable(Path::new(&echo)), Uid::current().is_root());
        for (name, expected) in [
            ("file", false),
            ("link", true),
            ("dlink/x", true),
            ("d", false),
        ] {
            scene.write("d/x", "x");
            assert_eq!(has_mutable_symlink(&at(name)), expected, "{name}");
        }
    }

    #[test]
    fn only_known_binaries_are_no_scripts() {
        let scene = Scene::new();
        let mut portable = vec![0; 0x44];
        portable[..2].copy_from_slice(b"MZ");
        portable[0x3c] = 0x40;
        portable[0x40..].copy_from_slice(b"PE\0\0");
        for (content, expected) in [
            (&b""[..], true),
            (b"#!/bin/sh\n", true),
            (b"echo", true),
            (b"\x7fELF\x02", false),
            (b"\xcf\xfa\xed\xfe", false),
            (b"MZ", true),
            (&portable[..0x43], true),
            (&portable, false),
        ] {
            let path = scene.root().join("file");
            std::fs::write(&path, content).unwrap();
            assert_eq!(is_script_like(&path), expected, "{content:?}");
        }
        assert!(is_script_like(&scene.root().join("none")));
    }
}
