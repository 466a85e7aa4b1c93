//! What `systemctl show` says about the unit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::manager::{Runtime, RuntimeStatus, SystemdRuntime, Transport};
use crate::unit::Scope;

/// What is asked for; the first thirteen are upstream's question (service §2.2).
pub(super) const WANTED: [&str; 17] = [
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "StartLimitBurst",
    "MainPID",
    "ExecMainStatus",
    "ExecMainCode",
    "KillMode",
    "TasksCurrent",
    "MemoryCurrent",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "WorkingDirectory",
];

/// `Name=value` pairs.
#[derive(Debug, Default)]
pub(super) struct Properties(BTreeMap<String, String>);

impl Properties {
    pub(super) fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter_map(|line| line.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A number; `None` also for `[not set]` and for the largest one, which means the same.
    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?
            .parse()
            .ok()
            .filter(|&number| number != u64::MAX)
    }

    /// Whether systemd knows no such unit.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.text("LoadState"), None | Some("not-found"))
    }

    /// Whether a file changed since systemd read it.
    pub(super) fn needs_reload(&self) -> bool {
        self.text("NeedDaemonReload") == Some("yes")
    }

    /// The unit and its drop-ins, in the order that they apply in.
    pub(super) fn definition_files(&self) -> Vec<PathBuf> {
        let fragment = self.text("FragmentPath").map(PathBuf::from);
        let drop_ins = self.text("DropInPaths").unwrap_or_default();
        fragment
            .into_iter()
            .chain(drop_ins.split_whitespace().map(PathBuf::from))
            .collect()
    }

    /// Where the service runs; `!` in front says that the folder may be missing.
    pub(super) fn working_directory(&self) -> Option<PathBuf> {
        self.text("WorkingDirectory")
            .map(|folder| PathBuf::from(folder.trim_start_matches('!')))
    }

    /// The status object.
    pub(super) fn runtime(&self, scope: Scope, transport: Transport) -> Runtime {
        let owned = |name| self.text(name).map(str::to_owned);
        let pid = self
            .number("MainPID")
            .filter(|&pid| pid != 0)
            .and_then(|pid| u32::try_from(pid).ok());
        let status = match self.text("ActiveState") {
            Some("active" | "reloading") => RuntimeStatus::Running,
            // On its way up or down, it has a process or waits for one.
            Some("activating" | "deactivating") if pid.is_some() => RuntimeStatus::Running,
            _ => RuntimeStatus::Stopped,
        };
        Runtime {
            state: owned("ActiveState"),
            sub_state: owned("SubState"),
            pid,
            last_exit_status: self
                .number("ExecMainStatus")
                .and_then(|status| i32::try_from(status).ok()),
            last_exit_reason: owned("ExecMainCode"),
            systemd: Some(SystemdRuntime {
                scope: Some(match scope {
                    Scope::User => "user",
                    Scope::System => "system",
                }),
                transport,
                unit: owned("Id"),
                kill_mode: owned("KillMode"),
                tasks_current: self.number("TasksCurrent"),
                memory_current: self.number("MemoryCurrent"),
                result: owned("Result"),
                n_restarts: self.number("NRestarts"),
                start_limit_burst: self.number("StartLimitBurst"),
            }),
            ..Runtime::of(status)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const STOPPED: &str = "Id=openclaw-node.service\nLoadState=loaded\nActiveState=inactive\n\
        SubState=dead\nResult=success\nNRestarts=0\nStartLimitBurst=10\nMainPID=0\n\
        ExecMainStatus=143\nExecMainCode=1\nKillMode=mixed\nTasksCurrent=[not set]\n\
        MemoryCurrent=18446744073709551615\nFragmentPath=/h/u.service\n\
        DropInPaths=/h/u.service.d/a.conf /h/u.service.d/b.conf\nNeedDaemonReload=yes\n\
        WorkingDirectory=!/home/tester\n";

    #[test]
    fn what_systemctl_shows_becomes_upstreams_object() {
        let properties = Properties::parse(STOPPED);
        let runtime = properties.runtime(Scope::User, Transport::default());
        let json = serde_json::to_value(&runtime).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "status": "stopped", "state": "inactive", "subState": "dead",
                "lastExitStatus": 143, "lastExitReason": "1",
                "systemd": {
                    "scope": "user", "transport": {"kind": ""}, "unit": "openclaw-node.service",
                    "killMode": "mixed", "result": "success", "nRestarts": 0, "startLimitBurst": 10,
                },
            })
        );
        assert!(properties.needs_reload() && !properties.is_missing());
        assert_eq!(properties.definition_files().len(), 3);
        assert_eq!(
            properties.working_directory().as_deref(),
            Some(Path::new("/home/tester"))
        );
    }

    #[test]
    fn a_unit_that_systemd_does_not_know_is_missing() {
        assert!(Properties::parse("LoadState=not-found\n").is_missing());
        assert!(Properties::default().is_missing());
    }

    #[test]
    fn a_unit_that_waits_for_its_restart_is_not_running() {
        let runtime = |text: &str| {
            Properties::parse(text)
                .runtime(Scope::User, Transport::default())
                .status
        };
        assert_eq!(
            runtime("ActiveState=activating\nSubState=auto-restart\nMainPID=0\n"),
            RuntimeStatus::Stopped
        );
        assert_eq!(
            runtime("ActiveState=activating\nSubState=start\nMainPID=7\n"),
            RuntimeStatus::Running
        );
    }
}
