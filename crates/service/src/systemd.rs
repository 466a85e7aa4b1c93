//! The node as a systemd unit, in a user's own manager or in the machine's.

mod properties;
mod session;
mod system_account;

use std::fs;
use std::path::{Path, PathBuf};

use self::properties::Properties;
use crate::availability::Unavailable;
use crate::definition::{self, Definition, Owner, Platform, UNIT};
use crate::drift::{self, Drift};
use crate::environment_file::{EnvironmentFile, MANAGED, Syntax};
use crate::files::{self, PRIVATE_FILE, PUBLIC_FILE};
use crate::linger::Linger;
use crate::manager::{
    Installed, Placed, Runtime, RuntimeStatus, ServiceError, ServiceManager, SystemdRuntime,
    Transport, Vocabulary,
};
use crate::tools::{Answer, FOREIGN_STOP, JOB, QUESTION, Tools};
use crate::unit::{self, Scope, SecretSource};
use crate::unit_file::UnitFile;

pub use self::session::Account;
pub use self::system_account::{SYSTEM_STATE_DIR, SYSTEM_USER};

/// Where an administrator's units are.
const SYSTEM_UNIT_FOLDER: &str = "/etc/systemd/system";
/// Where the secrets of a system unit are, one file each.
const SYSTEM_SECRET_FOLDER: &str = "/etc/openclaw-node";

/// systemd, asked through its own tools.
#[derive(Debug)]
pub struct Systemd {
    tools: Tools,
    scope: Scope,
    account: Account,
    /// Where the unit is written.
    unit_path: PathBuf,
    /// Where a user unit's secrets are.
    environment_file: PathBuf,
    transport: Transport,
}

/// Where the secrets of a user unit are, as upstream has it (service files §2.1).
#[must_use]
pub fn environment_file(state_dir: &Path) -> PathBuf {
    state_dir.join("node.systemd.env")
}

impl Systemd {
    /// The manager of this user. `variables` is this process's environment, of which systemd's
    /// tools see only what they need to find the manager.
    ///
    /// # Errors
    /// When the system gives no event loop.
    pub fn user(
        account: Account,
        state_dir: &Path,
        variables: impl Fn(&str) -> Option<String>,
    ) -> std::io::Result<Self> {
        let session = session::find(&account, &variables);
        Ok(Self {
            tools: Tools::new(session.variables)?,
            scope: Scope::User,
            unit_path: account.home.join(".config/systemd/user").join(UNIT),
            environment_file: environment_file(state_dir),
            account,
            transport: session.transport,
        })
    }

    /// The machine's manager.
    ///
    /// # Errors
    /// When the system gives no event loop.
    pub fn system(
        account: Account,
        variables: impl Fn(&str) -> Option<String>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            tools: Tools::new(session::tool_variables(&variables))?,
            scope: Scope::System,
            account,
            unit_path: Path::new(SYSTEM_UNIT_FOLDER).join(UNIT),
            environment_file: PathBuf::new(),
            transport: Transport {
                kind: "system-bus",
                address: Some("unix:path=/run/dbus/system_bus_socket".to_owned()),
                runtime_dir: None,
            },
        })
    }

    fn systemctl(
        &self,
        arguments: &[&str],
        deadline: std::time::Duration,
    ) -> Result<Answer, ServiceError> {
        let all = [self.scope.flag()]
            .into_iter()
            .chain(arguments.iter().copied());
        Ok(self.tools.run("systemctl", all, deadline)?)
    }

    /// Runs `systemctl` and takes anything but 0 as a refusal.
    fn must(&self, arguments: &[&str]) -> Result<(), ServiceError> {
        self.must_within(arguments, JOB)
    }

    fn must_within(
        &self,
        arguments: &[&str],
        deadline: std::time::Duration,
    ) -> Result<(), ServiceError> {
        let answer = self.systemctl(arguments, deadline)?;
        if answer.is_success() {
            return Ok(());
        }
        Err(ServiceError::Refused {
            command: format!("systemctl {} {}", self.scope.flag(), arguments.join(" ")),
            reason: session::in_one_line(&answer.stderr),
        })
    }

    fn properties(&self) -> Result<Properties, ServiceError> {
        let wanted = properties::WANTED.join(",");
        let answer = self.systemctl(
            &["show", UNIT, "--no-pager", "--property", &wanted],
            QUESTION,
        )?;
        Ok(Properties::parse(&answer.stdout))
    }

    /// Only root manages the machine's units.
    fn check_root(&self, verb: &str) -> Result<(), ServiceError> {
        if self.scope == Scope::System && !self.account.is_root() {
            return Err(ServiceError::NotRoot {
                command: format!("openclaw-node {verb} --system"),
            });
        }
        Ok(())
    }

    fn read_unit(&self, sources: &[PathBuf]) -> Result<UnitFile, ServiceError> {
        let mut unit = UnitFile::default();
        for source in sources {
            let text = fs::read_to_string(source).map_err(|error| ServiceError::File {
                path: source.clone(),
                source: error,
            })?;
            unit.read(&text, source);
        }
        Ok(unit)
    }

    fn home(&self) -> &Path {
        match self.scope {
            Scope::User => &self.account.home,
            Scope::System => Path::new(SYSTEM_STATE_DIR),
        }
    }

    fn secret_source(&self, has: impl Fn(&str) -> bool) -> SecretSource {
        match self.scope {
            Scope::User => SecretSource::EnvironmentFile(self.environment_file.clone()),
            Scope::System => SecretSource::Credentials(
                // systemd passes them on as credentials (D20).
                MANAGED
                    .into_iter()
                    .filter(|name| has(name))
                    .map(|name| {
                        let path = Path::new(SYSTEM_SECRET_FOLDER).join(name);
                        (name.to_owned(), path)
                    })
                    .collect(),
            ),
        }
    }

    fn store_secrets(&self, secrets: &EnvironmentFile) -> Result<(), ServiceError> {
        match self.scope {
            Scope::User => Ok(secrets.store(&self.environment_file, Syntax::Systemd)?),
            Scope::System => {
                system_account::store_secrets(Path::new(SYSTEM_SECRET_FOLDER), &MANAGED, secrets)
            }
        }
    }

    /// Whether the unit of a file is this program's own; one that cannot be read is not known to be.
    fn is_own(&self, path: &Path) -> bool {
        let unit = self
            .read_unit(std::slice::from_ref(&path.to_owned()))
            .unwrap_or_default();
        let command = unit.command().unwrap_or_default();
        Owner::of(&command, &unit.environment()) == Owner::Native
    }

    /// Whether there is a backup, and in it somebody else's unit: there is no other copy of that.
    fn is_backup_of_another(&self) -> bool {
        let backup = files::backup_path(&self.unit_path);
        backup.exists() && !self.is_own(&backup)
    }

    /// Keeps a copy of what was there before. This program's own unit is not worth the copy of
    /// somebody else's.
    fn place_unit(&self, text: &str) -> Result<Placed, ServiceError> {
        let path = &self.unit_path;
        let unusable = |source| ServiceError::File {
            path: path.clone(),
            source,
        };
        let mode = match self.scope {
            Scope::User => PRIVATE_FILE,
            Scope::System => PUBLIC_FILE,
        };
        let is_worth_a_copy = path.exists() && !(self.is_own(path) && self.is_backup_of_another());
        let backup = match is_worth_a_copy {
            true => Some(files::back_up(path).map_err(unusable)?),
            false => None,
        };
        files::write(path, text, mode).map_err(unusable)?;
        let mut lines = vec![
            String::new(),
            format!("Installed systemd service: {}", path.display()),
        ];
        lines.extend(
            backup.map(|backup| format!("Previous unit backed up to: {}", backup.display())),
        );
        Ok(Placed {
            lines,
            warnings: Vec::new(),
        })
    }

    /// Removes the backup, if this program's own unit is in it; another's is kept.
    fn remove_backup(&self) -> Result<Option<String>, ServiceError> {
        let backup = files::backup_path(&self.unit_path);
        if self.is_backup_of_another() {
            let kept = format!("Kept the unit that was replaced: {}", backup.display());
            return Ok(Some(kept));
        }
        files::remove(&backup).map_err(|source| ServiceError::File {
            path: backup,
            source,
        })?;
        Ok(None)
    }
}

impl ServiceManager for Systemd {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary {
            label: "systemd",
            loaded: "enabled",
            not_loaded: "disabled",
        }
    }

    fn check_available(&self) -> Result<(), Unavailable> {
        let asked = self.systemctl(&["show", "--property", "Version", "--value"], QUESTION);
        let said = match &asked {
            Ok(answer) if answer.is_success() => return Ok(()),
            Ok(answer) => answer.stderr.clone(),
            Err(error) => error.to_string(),
        };
        let has_systemctl = !matches!(
            asked,
            Err(ServiceError::Tool(crate::tools::ToolError::Missing { .. }))
        );
        let facts = session::facts(&self.account, &self.tools, has_systemctl, said);
        Err(match (self.scope, Unavailable::diagnose(facts.clone())) {
            (Scope::User, reason) => reason,
            (
                Scope::System,
                reason @ (Unavailable::NoSystemd { .. } | Unavailable::NoSystemctl),
            ) => reason,
            (Scope::System, _) => Unavailable::Other { said: facts.said },
        })
    }

    fn is_loaded(&self) -> bool {
        self.systemctl(&["is-enabled", UNIT], QUESTION)
            .is_ok_and(|answer| answer.is_success())
    }

    fn is_startable(&self) -> bool {
        self.is_loaded()
    }

    fn flag(&self) -> &'static str {
        match self.scope {
            Scope::User => "",
            Scope::System => " --system",
        }
    }

    fn installed(&self) -> Result<Option<Installed>, ServiceError> {
        let properties = self.properties().unwrap_or_default();
        let mut sources = properties.definition_files();
        sources.retain(|path| path.exists());
        if sources.is_empty() {
            if !self.unit_path.exists() {
                return Ok(None);
            }
            sources.push(self.unit_path.clone());
        }
        let unit = self.read_unit(&sources)?;
        let command = unit.command().unwrap_or_default();
        let environment = unit.environment();
        let mut file_variables = Vec::new();
        for path in unit.environment_files(self.home()) {
            // Whoever may not read the file still learns everything else.
            let file = EnvironmentFile::load(&path, Syntax::Systemd).unwrap_or_default();
            file_variables.extend(file.names().map(str::to_owned));
        }
        for directive in unit.all("Service", "LoadCredential") {
            let name = directive.value.split(':').next().unwrap_or_default();
            file_variables.push(name.to_owned());
        }
        Ok(Some(Installed {
            owner: Owner::of(&command, &environment),
            command,
            working_directory: properties.working_directory(),
            environment,
            file_variables,
            source: sources.first().cloned().unwrap_or_default(),
            sources,
        }))
    }

    fn runtime(&self) -> Runtime {
        if let Err(unavailable) = self.check_available() {
            return Runtime::unknown(unavailable);
        }
        match self.properties() {
            Ok(properties) if properties.is_missing() => Runtime {
                missing_unit: Some(true),
                systemd: Some(SystemdRuntime {
                    transport: self.transport.clone(),
                    ..SystemdRuntime::default()
                }),
                ..Runtime::of(RuntimeStatus::Stopped)
            },
            Ok(properties) => properties.runtime(self.scope, self.transport.clone()),
            Err(error) => Runtime::unknown(error),
        }
    }

    fn stored_secrets(&self) -> Result<EnvironmentFile, ServiceError> {
        match self.scope {
            Scope::User => Ok(EnvironmentFile::load(
                &self.environment_file,
                Syntax::Systemd,
            )?),
            Scope::System => {
                system_account::load_secrets(Path::new(SYSTEM_SECRET_FOLDER), &MANAGED)
            }
        }
    }

    fn install(
        &self,
        definition: &Definition,
        secrets: &EnvironmentFile,
    ) -> Result<Placed, ServiceError> {
        self.check_root("install")?;
        let source = self.secret_source(|name| secrets.get(name).is_some());
        let text = unit::render(self.scope, definition, &source)?;
        if self.scope == Scope::System {
            system_account::ensure(&self.tools)?;
        }
        self.store_secrets(secrets)?;
        let mut placed = self.place_unit(&text)?;
        self.must(&["daemon-reload"])?;
        self.must(&["enable", UNIT])?;
        // What an earlier unit did must not keep this one from starting; there may be none.
        self.systemctl(&["reset-failed", UNIT], QUESTION)?;
        self.must(&["restart", UNIT])?;
        placed
            .warnings
            .extend(self.linger().and_then(|linger| linger.warning()));
        Ok(placed)
    }

    fn start(&self) -> Result<String, ServiceError> {
        self.check_root("start")?;
        // A unit that failed too often starts only after this; one that never failed refuses it.
        self.systemctl(&["reset-failed", UNIT], QUESTION)?;
        self.must(&["start", UNIT])?;
        Ok(format!("Started systemd service: {UNIT}"))
    }

    fn restart(&self) -> Result<String, ServiceError> {
        self.check_root("restart")?;
        self.systemctl(&["reset-failed", UNIT], QUESTION)?;
        self.must(&["restart", UNIT])?;
        Ok(format!("Restarted systemd service: {UNIT}"))
    }

    fn stop(&self) -> Result<String, ServiceError> {
        self.check_root("stop")?;
        self.must(&["stop", UNIT])?;
        Ok(format!("Stopped systemd service: {UNIT}"))
    }

    fn disable(&self) -> Result<(), ServiceError> {
        self.check_root("stop")?;
        self.must_within(&["disable", "--now", UNIT], FOREIGN_STOP)
    }

    fn uninstall(&self) -> Result<Vec<String>, ServiceError> {
        self.check_root("uninstall")?;
        let path = &self.unit_path;
        let is_there = path.exists();
        if is_there {
            self.must(&["disable", "--now", UNIT])?;
        }
        let removed = files::remove(path).map_err(|source| ServiceError::File {
            path: path.clone(),
            source,
        })?;
        let kept = self.remove_backup()?;
        let mut secrets = self.stored_secrets()?;
        secrets.forget_managed();
        self.store_secrets(&secrets)?;
        if removed {
            self.must(&["daemon-reload"])?;
            self.systemctl(&["reset-failed", UNIT], QUESTION)?;
        }
        let mut lines = vec![if removed {
            format!("Removed systemd service: {}", path.display())
        } else {
            format!("Systemd service not found at {}", path.display())
        }];
        lines.extend(kept);
        if removed && self.scope == Scope::System {
            lines.push(format!(
                "Kept {SYSTEM_STATE_DIR} and the user {SYSTEM_USER}: they hold who this node is"
            ));
        }
        Ok(lines)
    }

    fn drift(&self, installed: &Installed, program: &Path) -> Result<Vec<Drift>, ServiceError> {
        let current = self.read_unit(&installed.sources)?;
        let arguments = definition::run_arguments(&installed.command).unwrap_or_default();
        let expected = Definition {
            program: program.to_owned(),
            run_arguments: arguments.to_vec(),
            environment: drift::expected_environment(installed, Platform::Linux, self.home()),
        };
        let secrets =
            self.secret_source(|name| installed.file_variables.iter().any(|known| known == name));
        let mut written = UnitFile::default();
        written.read(
            &unit::render(self.scope, &expected, &secrets)?,
            Path::new(""),
        );
        let mut drift =
            drift::compare(&drift::unit_values(&current), &drift::unit_values(&written));
        if self
            .properties()
            .is_ok_and(|properties| properties.needs_reload())
        {
            drift.push(Drift {
                key: "NeedDaemonReload".to_owned(),
                current: Some("yes".to_owned()),
                expected: Some("no".to_owned()),
                source: None,
            });
        }
        Ok(drift)
    }

    fn start_command(&self) -> String {
        match self.scope {
            Scope::User => format!("systemctl --user start {UNIT}"),
            Scope::System => format!("sudo systemctl start {UNIT}"),
        }
    }

    fn log_command(&self) -> String {
        match self.scope {
            Scope::User => format!("journalctl --user -u {UNIT} -n 200 --no-pager"),
            Scope::System => format!("journalctl -u {UNIT} -n 200 --no-pager"),
        }
    }

    fn linger(&self) -> Option<Linger> {
        if self.scope == Scope::System {
            return None;
        }
        let user = self.account.name.clone();
        let answer = self
            .tools
            .run("loginctl", ["show-user", &user, "-p", "Linger"], QUESTION)
            .ok()?;
        // An account that is neither logged in nor lingering is not known at all.
        let enabled = answer.is_success() && answer.stdout.trim() == "Linger=yes";
        Some(Linger { user, enabled })
    }

    fn enable_linger(&self) -> Result<(), ServiceError> {
        if self.scope == Scope::System {
            return Ok(());
        }
        let user = self.account.name.clone();
        let reason = match self
            .tools
            .run("loginctl", ["enable-linger", &user], QUESTION)
        {
            Ok(answer) if answer.is_success() => return self.await_manager(),
            Ok(answer) => session::in_one_line(&answer.stderr),
            Err(error) => error.to_string(),
        };
        Err(ServiceError::Linger { user, reason })
    }
}
