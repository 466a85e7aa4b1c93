//! How this session reaches systemd.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Uid, User};

use super::Systemd;
use crate::availability::Facts;
use crate::manager::{ServiceError, Transport};
use crate::tools::Tools;

/// What systemd's tools may see of this process's environment.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "SUDO_USER"];
/// How often a manager that was just started is looked for, and how long between.
const MANAGER_LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The account that services are managed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub uid: u32,
    /// Its name; its number where it has none.
    pub name: String,
    /// Its home directory, as the account database says.
    pub home: PathBuf,
}

impl Account {
    /// The account of this process; `fallback_home` is for accounts that the system does not know.
    #[must_use]
    pub fn current(fallback_home: &Path) -> Self {
        let uid = Uid::effective();
        match User::from_uid(uid) {
            Ok(Some(user)) => Self {
                uid: uid.as_raw(),
                name: user.name,
                home: user.dir,
            },
            _ => Self {
                uid: uid.as_raw(),
                name: uid.to_string(),
                home: fallback_home.to_owned(),
            },
        }
    }

    /// Whether it is root.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// Where a user's manager is.
pub(super) struct Session {
    pub(super) variables: Vec<(String, String)>,
    pub(super) transport: Transport,
}

/// What every tool sees.
pub(super) fn tool_variables(variables: &impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let mut passed: Vec<(String, String)> = PASSED_ON
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), variables(name)?)))
        .collect();
    if !passed.iter().any(|(name, _)| name == "PATH") {
        passed.push((
            "PATH".to_owned(),
            "/usr/bin:/bin:/usr/sbin:/sbin".to_owned(),
        ));
    }
    // Answers are read by this program, not by people.
    for (name, value) in [
        ("LC_ALL", "C.UTF-8"),
        ("SYSTEMD_COLORS", "0"),
        ("SYSTEMD_PAGER", ""),
    ] {
        passed.push((name.to_owned(), value.to_owned()));
    }
    passed
}

/// Finds the manager: as the session says, else where logind puts it.
pub(super) fn find(account: &Account, variables: &impl Fn(&str) -> Option<String>) -> Session {
    let usual = format!("/run/user/{}", account.uid);
    let given = variables("XDG_RUNTIME_DIR");
    let runtime_dir = given
        .clone()
        .or_else(|| has_manager_socket(Path::new(&usual)).then(|| usual.clone()));
    let bus = variables("DBUS_SESSION_BUS_ADDRESS").or_else(|| {
        let socket = Path::new(runtime_dir.as_deref()?).join("bus");
        socket
            .exists()
            .then(|| format!("unix:path={}", socket.display()))
    });
    let mut tools = tool_variables(variables);
    if let Some(folder) = &runtime_dir {
        tools.push(("XDG_RUNTIME_DIR".to_owned(), folder.clone()));
    }
    let transport = match &bus {
        Some(address) => {
            tools.push(("DBUS_SESSION_BUS_ADDRESS".to_owned(), address.clone()));
            Transport {
                kind: "session-bus",
                address: bus.clone(),
                runtime_dir,
            }
        }
        None => Transport {
            kind: "private-socket",
            address: runtime_dir
                .as_ref()
                .map(|folder| format!("unix:path={folder}/systemd/private")),
            runtime_dir,
        },
    };
    Session {
        variables: tools,
        transport,
    }
}

fn has_manager_socket(runtime_dir: &Path) -> bool {
    runtime_dir.join("systemd/private").exists()
}

/// What the machine shows when systemd does not answer.
pub(super) fn facts(account: &Account, tools: &Tools, has_systemctl: bool, said: String) -> Facts {
    let text = |name| {
        tools
            .variable(name)
            .map(|value| value.to_string_lossy().into_owned())
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let has = |path: &str| Path::new(path).exists();
    Facts {
        has_systemctl,
        is_booted: has("/run/systemd/system"),
        is_container: has("/run/.containerenv")
            || has("/.dockerenv")
            || has("/run/systemd/container"),
        is_wsl: kernel.to_ascii_lowercase().contains("microsoft"),
        uid: account.uid,
        user: account.name.clone(),
        sudo_user: text("SUDO_USER"),
        runtime_dir: text("XDG_RUNTIME_DIR").map(PathBuf::from),
        has_manager_socket: has_manager_socket(Path::new(&format!("/run/user/{}", account.uid))),
        said: in_one_line(&said),
    }
}

/// What a tool said, fit for a sentence.
pub(super) fn in_one_line(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.as_slice() {
        [] => "it said nothing".to_owned(),
        lines => lines.join(" "),
    }
}

impl Systemd {
    /// Waits until the manager that lingering starts answers.
    pub(super) fn await_manager(&self) -> Result<(), ServiceError> {
        use crate::manager::ServiceManager as _;
        for _ in 0..MANAGER_LOOKS {
            if self.check_available().is_ok() {
                return Ok(());
            }
            self.tools.pause(BETWEEN_LOOKS);
        }
        Ok(self.check_available()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            uid: 4_000_000,
            name: "nobody-here".to_owned(),
            home: "/home/nobody-here".into(),
        }
    }

    #[test]
    fn tools_see_no_secret() {
        let variables = |name: &str| Some(format!("value of {name}"));
        let session = find(&account(), &variables);
        assert!(
            session
                .variables
                .iter()
                .all(|(name, _)| !name.starts_with("OPENCLAW")),
            "{:?}",
            session.variables
        );
        assert_eq!(session.transport.kind, "session-bus");
    }

    #[test]
    fn without_a_session_nothing_is_invented() {
        let session = find(&account(), &|_| None);
        assert_eq!(session.transport.address, None);
        assert!(
            session
                .variables
                .iter()
                .all(|(name, _)| name != "XDG_RUNTIME_DIR")
        );
        assert!(session.variables.iter().any(|(name, _)| name == "PATH"));
    }

    #[test]
    fn what_a_tool_said_becomes_one_line() {
        assert_eq!(in_one_line("a\n\n  b\n"), "a b");
        assert_eq!(in_one_line(""), "it said nothing");
    }
}
