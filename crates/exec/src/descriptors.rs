//! Descriptors that the node was started with and has no use for (divergence D10).

use std::io;
use std::os::fd::RawFd;

/// Lists this process's own descriptors, on Linux and on macOS.
const DESCRIPTORS: &str = "/dev/fd";

/// The last of standard input, output and error.
const STANDARD_ERROR: RawFd = 2;

/// Closes every descriptor above standard error, so that no command can inherit one.
///
/// Whatever the node opens itself is closed on exec anyway; what it inherits from a shell or a
/// service manager is not. For this reason it belongs at the very start of `main`, before the node
/// has opened anything.
///
/// # Errors
/// The descriptors cannot be listed.
pub fn close_inherited() -> io::Result<()> {
    let listed: Vec<RawFd> = std::fs::read_dir(DESCRIPTORS)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > STANDARD_ERROR)
        .collect();
    for descriptor in listed {
        // The one that listed the folder is among them and closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// This test binary, started by a shell that leaves descriptor 9 open, runs the ignored test
    /// below; only there can everything inherited be closed.
    #[test]
    fn a_command_inherits_no_descriptor_that_the_node_was_started_with() {
        let myself = std::env::current_exe().unwrap();
        let inner = "descriptors::tests::commands_started_after_closing";
        let inherits = |test: &str| {
            let output = Command::new("/bin/sh")
                .args([
                    "-c",
                    "exec 9</dev/null; exec \"$0\" --ignored --exact --nocapture \"$1\"",
                ])
                .arg(&myself)
                .arg(format!("{inner}_{test}"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let shown = String::from_utf8(output.stdout).unwrap();
            shown
                .lines()
                // With one processor the harness has begun the line.
                .find_map(|line| line.split_once("DESCRIPTORS "))
                .unwrap()
                .1
                .to_owned()
        };
        assert!(
            inherits("nothing")
                .split(' ')
                .any(|descriptor| descriptor == "9")
        );
        assert_eq!(inherits("everything"), "0 1 2");
    }

    #[test]
    #[ignore = "run by the test above in a process of its own"]
    fn commands_started_after_closing_nothing() {
        show_descriptors_of_a_command();
    }

    #[test]
    #[ignore = "run by the test above in a process of its own"]
    fn commands_started_after_closing_everything() {
        super::close_inherited().unwrap();
        show_descriptors_of_a_command();
    }

    /// Has something open itself, as the node has.
    fn show_descriptors_of_a_command() {
        let _open = tempfile::tempfile().unwrap();
        let list = ["-c", "ls /proc/$$/fd; true"];
        let output = Command::new("/bin/sh").args(list).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        let shown: Vec<&str> = shown.split_whitespace().collect();
        println!("DESCRIPTORS {}", shown.join(" "));
    }
}
