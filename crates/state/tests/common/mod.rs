//! A second process for tests that need one: this very test binary, running one ignored test.

use std::path::Path;
use std::process::Command;

/// Tells the child which state folder it works on.
const STATE_DIR_VARIABLE: &str = "STATE_TEST_CHILD_DIR";

/// A command that runs the ignored test `name` of this binary as a child on `state_dir`.
#[allow(dead_code, reason = "not every test binary needs a plain child")]
pub(crate) fn child(name: &str, state_dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    prepare(&mut command, name, state_dir);
    command
}

/// Like [`child`], after the shell commands `before`.
#[allow(dead_code, reason = "not every test binary needs a shell")]
pub(crate) fn child_after(before: &str, name: &str, state_dir: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("{before}; exec \"$0\" \"$@\""));
    command.arg(std::env::current_exe().unwrap());
    prepare(&mut command, name, state_dir);
    command
}

fn prepare(command: &mut Command, name: &str, state_dir: &Path) {
    command
        .args(["--exact", name, "--ignored", "--nocapture", "--quiet"])
        .env(STATE_DIR_VARIABLE, state_dir);
}

/// In the child: the state folder; `None` when somebody runs the ignored test by hand.
pub(crate) fn state_dir_of_child() -> Option<std::path::PathBuf> {
    std::env::var_os(STATE_DIR_VARIABLE).map(Into::into)
}
