//! `install`, `start`, `stop`, `restart` and `uninstall`: what is checked first, and what is said
//! afterwards. Results, texts and members are upstream's (service §1.4).

use std::path::Path;

use serde::Serialize;

use crate::definition::{Definition, Owner};
use crate::environment_file::EnvironmentFile;
use crate::hint::{Hint, HintKind};
use crate::manager::{Installed, RuntimeStatus, ServiceError, ServiceManager};

/// What an operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Write the service and start it.
    Install,
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Stop it and remove it.
    Uninstall,
}

impl Action {
    /// The verb of the command line, and of `Node … failed:`.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Uninstall => "uninstall",
        }
    }
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    action: Action,
    outcome: Outcome,
    hints: Vec<Hint>,
    service: Option<ServiceState>,
    warnings: Vec<String>,
    /// What people read about a success.
    lines: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Done {
        result: &'static str,
        message: Option<String>,
    },
    Failed {
        error: String,
    },
}

/// The service object that every answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceState {
    label: &'static str,
    loaded: bool,
    loaded_text: &'static str,
    not_loaded_text: &'static str,
}

impl ServiceState {
    /// How the service is at this moment.
    pub fn of(manager: &dyn ServiceManager) -> Self {
        Self::with(manager, manager.is_loaded())
    }

    fn with(manager: &dyn ServiceManager, loaded: bool) -> Self {
        let vocabulary = manager.vocabulary();
        Self {
            label: vocabulary.label,
            loaded,
            loaded_text: vocabulary.loaded,
            not_loaded_text: vocabulary.not_loaded,
        }
    }

    /// `enabled`, `disabled`, `loaded` or `not loaded`.
    #[must_use]
    pub const fn text(&self) -> &'static str {
        if self.loaded {
            self.loaded_text
        } else {
            self.not_loaded_text
        }
    }

    /// `systemd` or `LaunchAgent`.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        self.label
    }

    /// Whether it starts by itself.
    #[must_use]
    pub const fn loaded(&self) -> bool {
        self.loaded
    }
}

/// The members of `--json`, in upstream's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    action: Action,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<ServiceState>,
    #[serde(skip_serializing_if = "<[Hint]>::is_empty")]
    hint_items: &'a [Hint],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

impl Report {
    fn done(action: Action, result: &'static str, service: ServiceState) -> Self {
        Self {
            action,
            outcome: Outcome::Done {
                result,
                message: None,
            },
            hints: Vec::new(),
            service: Some(service),
            warnings: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// A failure in these words, for people and for scripts.
    pub fn failed(action: Action, error: impl std::fmt::Display) -> Self {
        Self {
            action,
            outcome: Outcome::Failed {
                error: error.to_string(),
            },
            hints: Vec::new(),
            service: None,
            warnings: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// A failure of the service manager.
    #[must_use]
    pub fn service_error(action: Action, error: &ServiceError) -> Self {
        let text = format!("Node {} failed: {error}", action.verb());
        Self::failed(action, text).with_hints(error.hints())
    }

    fn with_message(mut self, text: String) -> Self {
        if let Outcome::Done { message, .. } = &mut self.outcome {
            self.lines.push(text.clone());
            *message = Some(text);
        }
        self
    }

    /// Adds lines that people read about a success.
    #[must_use]
    pub fn with_lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines);
        self
    }

    /// Adds what the operator can type next.
    #[must_use]
    pub fn with_hints(mut self, hints: impl IntoIterator<Item = Hint>) -> Self {
        self.hints.extend(hints);
        self
    }

    /// Adds what the operator should know beside the outcome.
    #[must_use]
    pub fn with_warnings(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    /// Whether the command exits with 0.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.outcome, Outcome::Done { .. })
    }

    /// The object for scripts.
    pub fn to_payload(&self) -> impl Serialize + '_ {
        let (result, error, message) = match &self.outcome {
            Outcome::Done { result, message } => (Some(*result), None, message.as_deref()),
            Outcome::Failed { error } => (None, Some(error.as_str()), None),
        };
        Payload {
            action: self.action,
            ok: self.is_success(),
            result,
            error,
            message,
            hints: self.hints.iter().map(|hint| hint.text.as_str()).collect(),
            service: self.service,
            hint_items: &self.hints,
            warnings: &self.warnings,
        }
    }

    /// Standard output for people.
    #[must_use]
    pub fn stdout(&self) -> String {
        let tips = self.hints.iter().map(|hint| format!("Tip: {}", hint.text));
        let lines: Vec<String> = self
            .lines
            .iter()
            .cloned()
            .chain(self.warnings.iter().cloned())
            .chain(tips)
            .collect();
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Standard error for people.
    #[must_use]
    pub fn stderr(&self) -> String {
        match &self.outcome {
            Outcome::Done { .. } => String::new(),
            Outcome::Failed { error } => format!("{error}\n"),
        }
    }
}

/// How a service that is there already is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It stays.
    No,
    /// It is backed up and replaced.
    Yes,
}

/// Whether there is anything to install: the report when there is not.
///
/// # Errors
/// The report that ends the command.
pub fn check_installable(
    manager: &dyn ServiceManager,
    replace: Replace,
) -> Result<(), Box<Report>> {
    let failed = |error: &ServiceError| Box::new(Report::service_error(Action::Install, error));
    manager
        .check_available()
        .map_err(|unavailable| failed(&unavailable.into()))?;
    let installed = manager.installed().map_err(|error| failed(&error))?;
    let Some(found) = installed else {
        return Ok(());
    };
    match (found.owner, replace) {
        (_, Replace::Yes) => Ok(()),
        (Owner::Native, Replace::No) if manager.is_loaded() => {
            let state = ServiceState::with(manager, true);
            let message = format!("Node service already {}.", state.text());
            let reinstall = format!(
                "Reinstall with: openclaw node install{} --force",
                manager.flag()
            );
            let linger = manager.linger().and_then(|linger| linger.warning());
            let report = Report::done(Action::Install, "already-installed", state)
                .with_message(message)
                .with_lines([reinstall])
                .with_warnings(linger);
            Err(Box::new(report))
        }
        (Owner::Native, Replace::No) => Ok(()),
        (owner @ (Owner::Upstream | Owner::Foreign), Replace::No) => {
            Err(Box::new(refuse_to_replace(manager, &found, owner)))
        }
    }
}

fn refuse_to_replace(manager: &dyn ServiceManager, found: &Installed, owner: Owner) -> Report {
    let whose = match owner {
        Owner::Upstream => "OpenClaw's own node host is",
        Owner::Foreign | Owner::Native => "a service that is not OpenClaw's is",
    };
    let install = format!("openclaw node install{}", manager.flag());
    let mut hints = vec![Hint::new(
        HintKind::Install,
        format!("{install} --force (keeps a backup of it, and replaces it)"),
    )];
    if owner == Owner::Upstream {
        hints.push(Hint::new(
            HintKind::Install,
            format!("{install} --takeover (stops it, imports who it is, and replaces it)"),
        ));
    }
    let path = found.source.display();
    Report::failed(
        Action::Install,
        format!("Node install failed: {whose} installed there already: {path}"),
    )
    .with_hints(hints)
}

/// Writes the service and starts it; [`check_installable`] came first.
pub fn install(
    manager: &dyn ServiceManager,
    definition: &Definition,
    secrets: &EnvironmentFile,
) -> Report {
    match manager.install(definition, secrets) {
        Ok(placed) => Report::done(Action::Install, "installed", ServiceState::of(manager))
            .with_lines(placed.lines)
            .with_warnings(placed.warnings),
        Err(error) => Report::service_error(Action::Install, &error)
            .with_hints([Hint::new(HintKind::Generic, manager.log_command())]),
    }
}

/// Starts the service; one that runs is left alone.
pub fn start(manager: &dyn ServiceManager) -> Report {
    if !manager.is_startable() {
        return not_there(manager, Action::Start);
    }
    let problems = match manager.installed() {
        Ok(installed) => installed.map_or_else(Vec::new, |found| problems(&found)),
        Err(error) => return Report::service_error(Action::Start, &error),
    };
    let runtime = manager.runtime();
    let repair = format!("openclaw node install{} --force", manager.flag());
    if let (RuntimeStatus::Running, Some(pid)) = (runtime.status, runtime.pid) {
        let warning = (!problems.is_empty()).then(|| {
            format!(
                "Node service already running, but its installed service definition needs repair: {}; run `{repair}` to apply.",
                problems.join("; ")
            )
        });
        return Report::done(Action::Start, "already-running", ServiceState::of(manager))
            .with_message(format!("Node service already running (pid {pid})."))
            .with_warnings(warning);
    }
    if !problems.is_empty() {
        return Report::failed(
            Action::Start,
            format!(
                "Node service needs repair before it can start: {}",
                problems.join("; ")
            ),
        )
        .with_hints([Hint::new(HintKind::Install, repair)]);
    }
    finish(manager, Action::Start, "started", manager.start())
}

/// Restarts the service.
pub fn restart(manager: &dyn ServiceManager) -> Report {
    if !manager.is_startable() {
        return not_there(manager, Action::Restart);
    }
    finish(manager, Action::Restart, "restarted", manager.restart())
}

/// Stops the service; one that is not there is stopped already.
pub fn stop(manager: &dyn ServiceManager) -> Report {
    // A service that runs without starting by itself is stopped as well.
    if !manager.is_loaded() && manager.runtime().status != RuntimeStatus::Running {
        let state = ServiceState::with(manager, false);
        let message = format!("Node service {}.", state.text());
        return Report::done(Action::Stop, "not-loaded", state).with_message(message);
    }
    finish(manager, Action::Stop, "stopped", manager.stop())
}

/// Removes this program's own service; another's is left to its own tools.
pub fn uninstall(manager: &dyn ServiceManager) -> Report {
    if let Err(unavailable) = manager.check_available() {
        return Report::service_error(Action::Uninstall, &unavailable.into());
    }
    match manager.installed() {
        Ok(Some(found)) if found.owner != Owner::Native => {
            let path = found.source.display();
            return Report::failed(
                Action::Uninstall,
                format!(
                    "Node uninstall failed: {path} was not installed by this program; remove it with the one that did"
                ),
            );
        }
        Ok(_) => {}
        Err(error) => return Report::service_error(Action::Uninstall, &error),
    }
    match manager.uninstall() {
        Ok(lines) => Report::done(Action::Uninstall, "uninstalled", ServiceState::of(manager))
            .with_lines(lines),
        Err(error) => Report::service_error(Action::Uninstall, &error),
    }
}

fn finish(
    manager: &dyn ServiceManager,
    action: Action,
    result: &'static str,
    ended: Result<String, ServiceError>,
) -> Report {
    match ended {
        Ok(line) => Report::done(action, result, ServiceState::of(manager)).with_lines([line]),
        Err(error) => Report::service_error(action, &error)
            .with_hints([Hint::new(HintKind::Generic, manager.log_command())]),
    }
}

fn not_there(manager: &dyn ServiceManager, action: Action) -> Report {
    let vocabulary = manager.vocabulary();
    let unavailable = manager.check_available().err();
    Report::failed(action, format!("Node service {}.", vocabulary.not_loaded))
        .with_hints(start_hints(manager))
        .with_hints(unavailable.into_iter().flat_map(|reason| reason.hints()))
}

/// How to get a service that starts by itself.
pub(crate) fn start_hints(manager: &dyn ServiceManager) -> [Hint; 3] {
    let flag = manager.flag();
    [
        Hint::new(HintKind::Install, format!("openclaw node install{flag}")),
        Hint::new(HintKind::Generic, format!("openclaw node start{flag}")),
        Hint::new(HintKind::Generic, manager.start_command()),
    ]
}

/// What keeps an installed command from starting, or from starting tomorrow.
fn problems(installed: &Installed) -> Vec<String> {
    let Some(program) = installed.command.first() else {
        return vec!["service has no command".to_owned()];
    };
    let path = Path::new(program);
    if !path.exists() {
        return vec![format!("service program is missing: {program}")];
    }
    is_temporary(path)
        .then(|| format!("service command points at a temporary path: {program}"))
        .into_iter()
        .collect()
}

/// Whether a program lies where things are cleaned away.
#[must_use]
pub fn is_temporary(program: &Path) -> bool {
    ["/tmp", "/var/tmp", "/dev/shm", "/private/tmp", "/run"]
        .iter()
        .any(|folder| program.starts_with(folder))
        || program.starts_with(std::env::temp_dir())
}
