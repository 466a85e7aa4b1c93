//! Where the real OpenClaw releases are installed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use gateway::Release;

/// Folders that real programs may need beside the Node.js of the lab.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn folder() -> PathBuf {
    std::env::var_os("OPENCLAW_LAB").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/openclaw-lab"),
        PathBuf::from,
    )
}

fn installed(relative: &str) -> PathBuf {
    let path = folder().join(relative);
    assert!(
        path.exists(),
        "{} is missing: run tests/interop/install-openclaw.sh, with the same OPENCLAW_LAB",
        path.display()
    );
    path
}

/// The command `openclaw` of a release, started by `launcher` (such as `ip netns exec NAME`), with
/// `home` as home and state folder and nothing of this process's environment.
pub(crate) fn openclaw(release: Release, home: &Path, launcher: &[impl AsRef<OsStr>]) -> Command {
    let node = installed("n26/node_modules/node/bin/node");
    let program = installed(&format!(
        "v{}/node_modules/openclaw/openclaw.mjs",
        release.version()
    ));
    let mut words: Vec<&OsStr> = launcher.iter().map(AsRef::as_ref).collect();
    words.extend([node.as_os_str(), program.as_os_str()]);
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .env_clear()
        .env("PATH", format!("{}:{SYSTEM_PATH}", node.parent().unwrap().display()))
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("OPENCLAW_STATE_DIR", home.join("state"))
        .env("OPENCLAW_CONFIG_PATH", home.join("state/openclaw.json"))
        .env("OPENCLAW_NO_AUTO_UPDATE", "1")
        // Compiled once for all the gateways of all runs, as on a machine in use.
        .env("NODE_COMPILE_CACHE", folder().join("compile-cache"))
        .current_dir(home);
    command
}
