//! Why a systemd manager cannot be reached, from what the machine shows, and what to type then.

use std::path::PathBuf;

use crate::hint::{Hint, HintKind};

/// What the machine shows when systemd does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whether `systemctl` is installed.
    pub has_systemctl: bool,
    /// Whether systemd runs this machine: `/run/systemd/system` is there (`sd_booted(3)`).
    pub is_booted: bool,
    /// Whether this is a container.
    pub is_container: bool,
    /// Whether this is the Windows Subsystem for Linux.
    pub is_wsl: bool,
    /// This account's number and name.
    pub uid: u32,
    /// Its name.
    pub user: String,
    /// Who called `sudo`, if somebody did.
    pub sudo_user: Option<String>,
    /// `XDG_RUNTIME_DIR`, if it is set.
    pub runtime_dir: Option<PathBuf>,
    /// Whether `/run/user/<uid>` has a manager's socket.
    pub has_manager_socket: bool,
    /// What `systemctl` said.
    pub said: String,
}

/// Why systemd cannot be reached; each text ends with what to type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// systemd does not run this machine.
    #[error("systemd does not run {}; run the node in the foreground: openclaw-node run", place(*.is_container))]
    NoSystemd {
        /// Whether this is a container.
        is_container: bool,
        /// Whether this is the Windows Subsystem for Linux.
        is_wsl: bool,
    },
    /// The machine has systemd, but not its command.
    #[error("systemctl is not installed; install the package systemd")]
    NoSystemctl,
    /// Through sudo, systemd is asked for root's own services.
    #[error(
        "this is root, called by {sudo_user}, whose services root does not see; run it without sudo, or install for the whole machine: openclaw-node install --system"
    )]
    Sudo {
        /// Who called `sudo`.
        sudo_user: String,
    },
    /// Root has no manager of its own.
    #[error(
        "root has no systemd user manager here; install for the whole machine: openclaw-node install --system"
    )]
    Root,
    /// The manager runs, but the session does not know where.
    #[error(
        "the systemd user manager cannot be found from this session; run: export XDG_RUNTIME_DIR=/run/user/$(id -u)"
    )]
    NoRuntimeDir,
    /// The account has no manager: nobody is logged in, as after `su` or in a bare SSH session.
    #[error(
        "{user} has no systemd user manager; run: sudo loginctl enable-linger {user} && export XDG_RUNTIME_DIR=/run/user/$(id -u)"
    )]
    NoUserManager {
        /// The account.
        user: String,
    },
    /// Something else.
    #[error("systemd does not answer: {said}")]
    Other {
        /// What `systemctl` said.
        said: String,
    },
    /// There is no desktop session of launchd to install into.
    #[error(
        "launchd has no desktop session for this user; log in on the desktop, then run: launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/ai.openclaw.node.plist"
    )]
    NoDesktopSession,
}

const fn place(is_container: bool) -> &'static str {
    if is_container {
        "this container"
    } else {
        "this machine"
    }
}

impl Unavailable {
    /// Finds the reason.
    #[must_use]
    pub fn diagnose(facts: Facts) -> Self {
        if !facts.is_booted {
            return Self::NoSystemd {
                is_container: facts.is_container,
                is_wsl: facts.is_wsl,
            };
        }
        if !facts.has_systemctl {
            return Self::NoSystemctl;
        }
        if facts.uid == 0 {
            return match facts.sudo_user {
                Some(sudo_user) if sudo_user != "root" => Self::Sudo { sudo_user },
                _ => Self::Root,
            };
        }
        let expected = PathBuf::from(format!("/run/user/{}", facts.uid));
        if facts.has_manager_socket && facts.runtime_dir.as_ref() != Some(&expected) {
            Self::NoRuntimeDir
        } else if facts.has_manager_socket {
            Self::Other { said: facts.said }
        } else {
            Self::NoUserManager { user: facts.user }
        }
    }

    /// Hints as upstream gives them, with the node's own commands.
    #[must_use]
    pub fn hints(&self) -> Vec<Hint> {
        let mut hints = Vec::new();
        match self {
            Self::NoSystemd { is_wsl, .. } => {
                hints.push(Hint::new(
                    HintKind::SystemdUnavailable,
                    "systemd user services are unavailable; install/enable systemd or run the node under your supervisor.",
                ));
                hints.push(Hint::new(
                    HintKind::ContainerForeground,
                    "If you're in a container, run the node in the foreground: openclaw-node run",
                ));
                if *is_wsl {
                    hints.push(Hint::new(
                        HintKind::WslSystemd,
                        "in WSL put systemd=true below [boot] in /etc/wsl.conf, then run: wsl.exe --shutdown",
                    ));
                }
            }
            Self::NoSystemctl => hints.push(Hint::new(
                HintKind::SystemdUnavailable,
                "sudo apt-get install systemd",
            )),
            Self::Sudo { .. } | Self::Root => hints.push(Hint::new(
                HintKind::Generic,
                "openclaw-node install --system",
            )),
            Self::NoRuntimeDir => hints.push(Hint::new(
                HintKind::SystemdHeadless,
                "export XDG_RUNTIME_DIR=/run/user/$(id -u)",
            )),
            Self::NoUserManager { user } => {
                hints.push(Hint::new(
                    HintKind::SystemdHeadless,
                    format!("sudo loginctl enable-linger {user}"),
                ));
                hints.push(Hint::new(
                    HintKind::SystemdHeadless,
                    "export XDG_RUNTIME_DIR=/run/user/$(id -u)",
                ));
            }
            Self::Other { .. } => hints.push(Hint::new(
                HintKind::SystemdUnavailable,
                "systemctl --user status",
            )),
            Self::NoDesktopSession => hints.push(Hint::new(
                HintKind::Generic,
                "launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/ai.openclaw.node.plist",
            )),
        }
        hints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            has_systemctl: true,
            is_booted: true,
            is_container: false,
            is_wsl: false,
            uid: 1500,
            user: "tester".to_owned(),
            sudo_user: None,
            runtime_dir: None,
            has_manager_socket: false,
            said: "Failed to connect to bus: No medium found".to_owned(),
        }
    }

    #[test]
    fn each_situation_has_its_command() {
        let right = Some(PathBuf::from("/run/user/1500"));
        let cases: Vec<(Facts, &str)> = vec![
            (
                Facts {
                    is_booted: false,
                    is_container: true,
                    ..facts()
                },
                "openclaw-node run",
            ),
            (
                Facts {
                    is_booted: false,
                    has_systemctl: false,
                    ..facts()
                },
                "openclaw-node run",
            ),
            (
                Facts {
                    has_systemctl: false,
                    ..facts()
                },
                "install the package systemd",
            ),
            (
                Facts {
                    uid: 0,
                    user: "root".into(),
                    sudo_user: Some("ann".into()),
                    ..facts()
                },
                "openclaw-node install --system",
            ),
            (
                Facts {
                    uid: 0,
                    user: "root".into(),
                    ..facts()
                },
                "openclaw-node install --system",
            ),
            (
                Facts {
                    has_manager_socket: true,
                    ..facts()
                },
                "export XDG_RUNTIME_DIR=/run/user/$(id -u)",
            ),
            (
                Facts {
                    has_manager_socket: true,
                    runtime_dir: Some("/tmp/wrong".into()),
                    ..facts()
                },
                "export XDG_RUNTIME_DIR=/run/user/$(id -u)",
            ),
            (facts(), "sudo loginctl enable-linger tester"),
            (
                Facts {
                    runtime_dir: right.clone(),
                    ..facts()
                },
                "sudo loginctl enable-linger tester",
            ),
            (
                Facts {
                    has_manager_socket: true,
                    runtime_dir: right,
                    ..facts()
                },
                "No medium found",
            ),
        ];
        for (facts, command) in cases {
            let reason = Unavailable::diagnose(facts.clone());
            assert!(reason.to_string().contains(command), "{facts:?}: {reason}");
            assert!(!reason.hints().is_empty(), "{reason}");
        }
    }

    #[test]
    fn a_container_gets_upstreams_two_hints_and_wsl_its_own() {
        let kinds = |is_wsl: bool| -> Vec<HintKind> {
            Unavailable::NoSystemd {
                is_container: !is_wsl,
                is_wsl,
            }
            .hints()
            .iter()
            .map(|hint| hint.kind)
            .collect()
        };
        assert_eq!(
            kinds(false),
            [HintKind::SystemdUnavailable, HintKind::ContainerForeground]
        );
        assert_eq!(kinds(true).last(), Some(&HintKind::WslSystemd));
    }
}
