//! `status`: how the installed service is, without the live node's part.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::action::{self, ServiceState};
use crate::definition::Owner;
use crate::drift::Drift;
use crate::linger::Linger;
use crate::manager::{Installed, Runtime, RuntimeStatus, ServiceManager};

/// Variables whose values upstream shows; all others are only named (service §1.4).
const SHOWN_VARIABLES: [&str; 6] = [
    "OPENCLAW_PROFILE",
    "OPENCLAW_STATE_DIR",
    "OPENCLAW_CONFIG_PATH",
    "OPENCLAW_GATEWAY_PORT",
    "OPENCLAW_CONFIG_READONLY",
    "OPENCLAW_NIX_MODE",
];

/// The `service` member of `status --json`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ServiceStatus {
    #[serde(flatten)]
    state: ServiceState,
    command: Option<CommandView>,
    runtime: Runtime,
}

/// What is known of a service before its live part.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The `service` member.
    pub service: ServiceStatus,
    /// Where the installed service differs from what this version would write.
    pub drift: Vec<Drift>,
    /// Whether it outlives a logout, where that is a question.
    pub linger: Option<Linger>,
    owner: Option<Owner>,
    start_hints: [String; 3],
    log_command: String,
    install: String,
    /// What could not be read.
    complaints: Vec<String>,
}

#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct CommandView {
    program_arguments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_directory: Option<String>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    environment: Pairs,
    environment_value_sources: Pairs,
    source_path: String,
    definition_paths: Vec<String>,
}

/// An object whose members keep their order.
#[derive(Debug, Clone, Default)]
struct Pairs(Vec<(String, String)>);

impl Pairs {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl From<Installed> for CommandView {
    fn from(installed: Installed) -> Self {
        let in_file = |name: &str| installed.file_variables.iter().any(|known| known == name);
        let inline = |name: &str| installed.environment.iter().any(|(known, _)| known == name);
        let inline_sources = installed.environment.iter().map(|(name, _)| {
            let source = if in_file(name) {
                "inline-and-file"
            } else {
                "inline"
            };
            (name.clone(), source.to_owned())
        });
        let file_sources = installed
            .file_variables
            .iter()
            .filter(|name| !inline(name))
            .map(|name| (name.clone(), "file".to_owned()));
        Self {
            environment_value_sources: Pairs(inline_sources.chain(file_sources).collect()),
            environment: Pairs(
                installed
                    .environment
                    .iter()
                    .filter(|(name, _)| SHOWN_VARIABLES.contains(&name.as_str()))
                    .cloned()
                    .collect(),
            ),
            working_directory: installed
                .working_directory
                .map(|folder| folder.to_string_lossy().into_owned()),
            source_path: installed.source.to_string_lossy().into_owned(),
            definition_paths: installed
                .sources
                .iter()
                .map(|path| path.to_string_lossy().into_owned())
                .collect(),
            program_arguments: installed.command,
        }
    }
}

impl Inspection {
    /// Asks the manager; what cannot be read is told, and ends nothing.
    pub fn of(manager: &dyn ServiceManager, program: &std::path::Path) -> Self {
        let mut complaints = Vec::new();
        let installed = manager.installed().unwrap_or_else(|error| {
            complaints.push(error.to_string());
            None
        });
        let drift = match &installed {
            Some(installed) => manager.drift(installed, program).unwrap_or_else(|error| {
                complaints.push(error.to_string());
                Vec::new()
            }),
            None => Vec::new(),
        };
        Self {
            drift,
            linger: manager.linger(),
            start_hints: action::start_hints(manager).map(|hint| hint.text),
            log_command: manager.log_command(),
            owner: installed.as_ref().map(|installed| installed.owner),
            install: format!("openclaw node install{}", manager.flag()),
            service: ServiceStatus {
                state: ServiceState::of(manager),
                command: installed.map(CommandView::from),
                runtime: manager.runtime(),
            },
            complaints,
        }
    }

    /// The value of a variable that the service is started with, if it is one of those that are
    /// shown.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let Pairs(variables) = &self.service.command.as_ref()?.environment;
        let (_, value) = variables.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Whether the service has a process.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.service.runtime.status == RuntimeStatus::Running
    }

    /// The lines about the service, upstream's first.
    #[must_use]
    pub fn service_lines(&self) -> Vec<String> {
        let ServiceStatus {
            state,
            command,
            runtime,
        } = &self.service;
        let mut lines = vec![format!("Service: {} ({})", state.label(), state.text())];
        if let Some(command) = command {
            lines.push(format!("Command: {}", command.program_arguments.join(" ")));
            lines.push(format!("Service file: {}", command.source_path));
            if let Some(folder) = &command.working_directory {
                lines.push(format!("Working dir: {folder}"));
            }
        }
        lines.push(format!("Runtime: {}", describe(runtime)));
        lines
    }

    /// What differs, lingering, and what could not be read.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut lines = match self.owner {
            Some(Owner::Upstream) => vec![format!(
                "This is OpenClaw's own node host; replace it with: {} --takeover",
                self.install
            )],
            Some(Owner::Foreign) => vec![format!(
                "This is no node host that is known here; replace it with: {} --force",
                self.install
            )],
            Some(Owner::Native) | None => self.drift_lines(),
        };
        if self.service.command.is_some() {
            lines.extend(self.linger.as_ref().and_then(Linger::warning));
        }
        lines.extend(
            self.complaints
                .iter()
                .map(|complaint| format!("Not shown: {complaint}")),
        );
        lines
    }

    fn drift_lines(&self) -> Vec<String> {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        let mut lines: Vec<String> = self
            .drift
            .iter()
            .map(|drift| {
                let place = match &drift.source {
                    Some(source) => format!(" ({})", source.display()),
                    None => String::new(),
                };
                format!(
                    "Drift: {} is {}, this version would write {}{place}",
                    drift.key,
                    shown(&drift.current),
                    shown(&drift.expected)
                )
            })
            .collect();
        if !lines.is_empty() {
            lines.push(format!("Apply with: {} --force", self.install));
        }
        lines
    }

    /// What to type next, after everything else.
    #[must_use]
    pub fn closing_lines(&self) -> Vec<String> {
        if !self.service.state.loaded() {
            let hints = self
                .start_hints
                .iter()
                .map(|hint| format!("Start with: {hint}"));
            return [String::new()].into_iter().chain(hints).collect();
        }
        if self.is_running() {
            return Vec::new();
        }
        vec![format!("Logs: {}", self.log_command)]
    }

    /// What belongs on standard error.
    #[must_use]
    pub fn complaint(&self) -> Option<&'static str> {
        (self.service.state.loaded() && self.service.runtime.status == RuntimeStatus::Stopped)
            .then_some("Service is loaded but not running.")
    }
}

/// Upstream's short form, such as `running (pid 543, state active, sub running, last exit 0,
/// reason 0)`.
fn describe(runtime: &Runtime) -> String {
    let status = match runtime.status {
        RuntimeStatus::Running => "running",
        RuntimeStatus::Stopped => "stopped",
        RuntimeStatus::Unknown => "unknown",
    };
    let mut parts = Vec::new();
    parts.extend(runtime.pid.map(|pid| format!("pid {pid}")));
    parts.extend(runtime.state.as_ref().map(|state| format!("state {state}")));
    parts.extend(
        runtime
            .sub_state
            .as_ref()
            .map(|state| format!("sub {state}")),
    );
    parts.extend(runtime.last_exit_status.map(|status| match signal(status) {
        Some(signal) => format!("last exit {status} ({signal})"),
        None => format!("last exit {status}"),
    }));
    parts.extend(
        runtime
            .last_exit_reason
            .as_ref()
            .map(|reason| format!("reason {reason}")),
    );
    parts.extend(runtime.detail.clone());
    if parts.is_empty() {
        status.to_owned()
    } else {
        format!("{status} ({})", parts.join(", "))
    }
}

/// The signal that a shell's exit code stands for.
fn signal(status: i32) -> Option<&'static str> {
    use nix::sys::signal::Signal;
    let signal = Signal::try_from(status.checked_sub(128)?).ok()?;
    Some(signal.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_reads_as_upstreams() {
        let running = Runtime {
            state: Some("active".to_owned()),
            sub_state: Some("running".to_owned()),
            pid: Some(543),
            last_exit_status: Some(0),
            last_exit_reason: Some("0".to_owned()),
            ..Runtime::of(RuntimeStatus::Running)
        };
        assert_eq!(
            describe(&running),
            "running (pid 543, state active, sub running, last exit 0, reason 0)"
        );
        let stopped = Runtime {
            state: Some("inactive".to_owned()),
            sub_state: Some("dead".to_owned()),
            pid: None,
            last_exit_status: Some(143),
            last_exit_reason: Some("1".to_owned()),
            ..Runtime::of(RuntimeStatus::Stopped)
        };
        assert_eq!(
            describe(&stopped),
            "stopped (state inactive, sub dead, last exit 143 (SIGTERM), reason 1)"
        );
        assert_eq!(describe(&Runtime::of(RuntimeStatus::Stopped)), "stopped");
        assert_eq!(describe(&Runtime::unknown("why")), "unknown (why)");
    }
}
