//! What an operator can type next, as text and as a kind that scripts hold on to.

use serde::Serialize;

/// Which remedy a hint is (service §1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HintKind {
    /// Install the service.
    Install,
    /// A command that may help.
    Generic,
    /// There is no systemd.
    SystemdUnavailable,
    /// There is systemd, and no session to reach it through.
    SystemdHeadless,
    /// Run without a service manager.
    ContainerForeground,
    /// Turn systemd on in WSL.
    WslSystemd,
}

/// What an operator can type next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hint {
    /// Which remedy.
    pub kind: HintKind,
    /// What to type or do.
    pub text: String,
}

impl Hint {
    /// A hint.
    pub fn new(kind: HintKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}
