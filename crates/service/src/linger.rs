//! Whether an account's services run on after it logged out.

use serde::Serialize;

/// The state of lingering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Linger {
    /// The account.
    pub user: String,
    /// Whether its services outlive its sessions.
    pub enabled: bool,
}

impl Linger {
    /// What an operator should know, in upstream's words (service §1.4).
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let user = &self.user;
        (!self.enabled).then(|| {
            format!(
                "Systemd lingering is disabled for {user}. The node service will stop when you log out. Run: sudo loginctl enable-linger {user}"
            )
        })
    }
}
