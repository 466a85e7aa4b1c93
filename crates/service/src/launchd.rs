//! The node as a launchd agent of the desktop session.
//!
//! Ordinary code on every system, so that its tests run everywhere; only which manager a build
//! chooses depends on the target.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::{self, Agent, AgentPlaces, ENV_FILE_OPTION, LOG_FILE_OPTION};
use crate::availability::Unavailable;
use crate::definition::{self, Definition, LABEL, Owner, Platform};
use crate::drift::{self, Drift};
use crate::environment_file::{EnvironmentFile, Syntax};
use crate::files::{self, PUBLIC_FILE};
use crate::linger::Linger;
use crate::manager::{
    Installed, Placed, Runtime, RuntimeStatus, ServiceError, ServiceManager, Vocabulary,
};
use crate::tools::{Answer, FOREIGN_STOP, JOB, QUESTION, Tools};

/// What `launchctl` exits with where there is no such domain, as without a desktop session.
const NO_SUCH_DOMAIN: [i32; 2] = [125, 112];
/// What `launchctl bootstrap` exits with while the service of before is still on its way out
/// (`EIO`, `EALREADY`, `EINPROGRESS`).
const STILL_LEAVING: [i32; 3] = [5, 37, 36];

/// How often a leaving service is looked at, and how long between: beyond `ExitTimeOut`.
const LOOKS: u32 = 250;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Mode of the folders of logs and agents.
const FOLDER_MODE: u32 = 0o755;

/// launchd, asked through `launchctl`.
#[derive(Debug)]
pub struct Launchd {
    tools: Tools,
    uid: u32,
    home: PathBuf,
    places: AgentPlaces,
}

/// Where the secrets of an agent are, as upstream has it (service files §2.3).
#[must_use]
pub fn environment_file(state_dir: &Path) -> PathBuf {
    state_dir.join(format!("service-env/{LABEL}.env"))
}

impl Launchd {
    /// The agents of the user `uid`, whose home is `home`. `tools` finds `launchctl` by its `PATH`.
    #[must_use]
    pub fn new(tools: Tools, uid: u32, home: PathBuf, state_dir: &Path) -> Self {
        let places = AgentPlaces {
            environment_file: environment_file(state_dir),
            log_file: home.join("Library/Logs/openclaw/node.log"),
        };
        Self {
            tools,
            uid,
            home,
            places,
        }
    }

    fn plist(&self) -> PathBuf {
        self.home
            .join(format!("Library/LaunchAgents/{LABEL}.plist"))
    }

    fn domain(&self) -> String {
        format!("gui/{}", self.uid)
    }

    fn target(&self) -> String {
        format!("gui/{}/{LABEL}", self.uid)
    }

    fn launchctl(&self, arguments: &[&str], deadline: Duration) -> Result<Answer, ServiceError> {
        Ok(self.tools.run("launchctl", arguments, deadline)?)
    }

    fn must(&self, arguments: &[&str]) -> Result<(), ServiceError> {
        let answer = self.launchctl(arguments, JOB)?;
        if answer.is_success() {
            return Ok(());
        }
        if answer
            .code
            .is_some_and(|code| NO_SUCH_DOMAIN.contains(&code))
        {
            return Err(Unavailable::NoDesktopSession.into());
        }
        let code = answer.code.unwrap_or_default();
        Err(ServiceError::Refused {
            command: format!("launchctl {}", arguments.join(" ")),
            reason: format!("{} (exit {code})", answer.stderr),
        })
    }

    fn enable(&self) -> Result<(), ServiceError> {
        self.must(&["enable", &self.target()])
    }

    fn bootstrap(&self) -> Result<(), ServiceError> {
        let (domain, plist) = (self.domain(), self.plist());
        let plist = plist.to_string_lossy();
        let arguments = ["bootstrap", domain.as_str(), &plist];
        for _ in 0..LOOKS {
            let answer = self.launchctl(&arguments, JOB)?;
            let is_leaving = answer
                .code
                .is_some_and(|code| STILL_LEAVING.contains(&code));
            if answer.is_success() || (is_leaving && self.is_loaded()) {
                return Ok(());
            }
            if !is_leaving {
                break;
            }
            self.tools.pause(BETWEEN_LOOKS);
        }
        self.must(&arguments)
    }

    /// Unloads the agent and waits until it is gone: until then it cannot be loaded again.
    fn boot_out(&self) -> Result<(), ServiceError> {
        let answer = self.launchctl(&["bootout", &self.target()], FOREIGN_STOP)?;
        for _ in 0..LOOKS {
            if !self.is_loaded() {
                return Ok(());
            }
            self.tools.pause(BETWEEN_LOOKS);
        }
        Err(ServiceError::Refused {
            command: format!("launchctl bootout {}", self.target()),
            reason: match answer.stderr.as_str() {
                "" => "the agent is still there".to_owned(),
                said => said.to_owned(),
            },
        })
    }

    /// A daemon of the machine with this label would fight with the agent over it.
    fn check_label(&self) -> Result<(), ServiceError> {
        let target = format!("system/{LABEL}");
        if self.launchctl(&["print", &target], QUESTION)?.is_success() {
            return Err(ServiceError::DaemonOwnsLabel { label: LABEL });
        }
        Ok(())
    }

    fn read_agent(&self) -> Result<Option<Agent>, ServiceError> {
        let path = self.plist();
        if !path.exists() {
            return Ok(None);
        }
        match Agent::read(&path) {
            Ok(agent) => Ok(Some(agent)),
            Err(error) => Err(ServiceError::File {
                path,
                source: io::Error::other(error),
            }),
        }
    }

    fn file_error(path: &Path) -> impl Fn(io::Error) -> ServiceError {
        let path = path.to_owned();
        move |source| ServiceError::File {
            path: path.clone(),
            source,
        }
    }

    /// Moves the agent where people look for what they threw away; never over something else.
    fn move_to_trash(&self) -> Result<PathBuf, ServiceError> {
        let from = self.plist();
        let folder = self.home.join(".Trash");
        files::make_folder(&folder, 0o700).map_err(Self::file_error(&folder))?;
        let mut to = folder.join(format!("{LABEL}.plist"));
        let mut copy = 1;
        while to.exists() {
            copy += 1;
            to = folder.join(format!("{LABEL} {copy}.plist"));
        }
        match fs::rename(&from, &to) {
            Ok(()) => Ok(to),
            Err(error) => Err(Self::file_error(&from)(error)),
        }
    }

    /// Whether there is a backup, and in it somebody else's agent: there is no other copy of that.
    fn is_backup_of_another(&self) -> bool {
        let backup = files::backup_path(&self.plist());
        backup.exists() && !is_own(&backup)
    }

    /// Removes the backup, if this program's own agent is in it; another's is kept.
    fn remove_backup(&self) -> Result<Option<String>, ServiceError> {
        let backup = files::backup_path(&self.plist());
        if self.is_backup_of_another() {
            return Ok(Some(format!(
                "Kept the agent that was replaced: {}",
                backup.display()
            )));
        }
        files::remove(&backup).map_err(Self::file_error(&backup))?;
        Ok(None)
    }
}

/// Whether the agent of a file is this program's own; one that cannot be read is not known to be.
fn is_own(path: &Path) -> bool {
    Agent::read(path)
        .is_ok_and(|agent| Owner::of(&agent.command, &agent.environment) == Owner::Native)
}

/// `name = value` lines of `launchctl print`, the outermost first.
fn printed<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.trim().split_once(" = "))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

impl ServiceManager for Launchd {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary {
            label: "LaunchAgent",
            loaded: "loaded",
            not_loaded: "not loaded",
        }
    }

    fn check_available(&self) -> Result<(), Unavailable> {
        // The desktop session shows when something is loaded into it; a question needs none.
        match self.launchctl(&["version"], QUESTION) {
            Ok(_) => Ok(()),
            Err(error) => Err(Unavailable::Other {
                said: error.to_string(),
            }),
        }
    }

    fn is_loaded(&self) -> bool {
        self.launchctl(&["print", &self.target()], QUESTION)
            .is_ok_and(|answer| answer.is_success())
    }

    fn is_startable(&self) -> bool {
        self.plist().exists() || self.is_loaded()
    }

    fn installed(&self) -> Result<Option<Installed>, ServiceError> {
        let Some(agent) = self.read_agent()? else {
            return Ok(None);
        };
        let file = match &agent.environment_file {
            Some(path) => EnvironmentFile::load(path, Syntax::Shell).unwrap_or_default(),
            None => EnvironmentFile::default(),
        };
        // Upstream's agent has its markers in the file.
        let mut marks = agent.environment.clone();
        if file.get(definition::KIND.0).is_some() {
            let (name, value) = definition::KIND;
            marks.push((name.to_owned(), value.to_owned()));
        }
        Ok(Some(Installed {
            owner: Owner::of(&agent.command, &marks),
            command: agent.command,
            working_directory: agent.working_directory,
            environment: agent.environment,
            file_variables: file.names().map(str::to_owned).collect(),
            source: self.plist(),
            sources: vec![self.plist()],
        }))
    }

    fn runtime(&self) -> Runtime {
        let answer = match self.launchctl(&["print", &self.target()], QUESTION) {
            Ok(answer) => answer,
            Err(error) => return Runtime::unknown(error),
        };
        if !answer.is_success() {
            return Runtime {
                missing_unit: (!self.plist().exists()).then_some(true),
                ..Runtime::of(RuntimeStatus::Stopped)
            };
        }
        let pid = printed(&answer.stdout, "pid").and_then(|pid| pid.parse().ok());
        let state = printed(&answer.stdout, "state").map(str::to_owned);
        let is_running = pid.is_some() || state.as_deref() == Some("running");
        Runtime {
            // Upstream's line says no more than the process of an agent that runs.
            state: state.filter(|_| !is_running),
            pid,
            last_exit_status: printed(&answer.stdout, "last exit code")
                .and_then(|code| code.split(':').next()?.trim().parse().ok())
                .filter(|_| !is_running),
            ..Runtime::of(if is_running {
                RuntimeStatus::Running
            } else {
                RuntimeStatus::Stopped
            })
        }
    }

    fn stored_secrets(&self) -> Result<EnvironmentFile, ServiceError> {
        let path = &self.places.environment_file;
        let mut file = EnvironmentFile::load(path, Syntax::Shell)?.whole(path)?;
        // Upstream keeps the whole environment in this file; only its secrets are of use.
        file.retain(|name| crate::environment_file::MANAGED.contains(&name));
        Ok(file)
    }

    fn install(
        &self,
        definition: &Definition,
        secrets: &EnvironmentFile,
    ) -> Result<Placed, ServiceError> {
        let text = agent::render(definition, &self.places)?;
        self.check_label()?;
        let plist = self.plist();
        for folder in [plist.parent(), self.places.log_file.parent()]
            .into_iter()
            .flatten()
        {
            files::make_folder(folder, FOLDER_MODE).map_err(Self::file_error(folder))?;
        }
        secrets.store(&self.places.environment_file, Syntax::Shell)?;
        // This program's own agent is not worth the copy of somebody else's.
        let is_worth_a_copy = plist.exists() && !(is_own(&plist) && self.is_backup_of_another());
        let backup = match is_worth_a_copy {
            true => Some(files::back_up(&plist).map_err(Self::file_error(&plist))?),
            false => None,
        };
        files::write(&plist, &text, PUBLIC_FILE).map_err(Self::file_error(&plist))?;
        if self.is_loaded() {
            self.boot_out()?;
        }
        self.enable()?;
        self.bootstrap()?;
        let mut lines = vec![
            String::new(),
            format!("Installed LaunchAgent: {}", plist.display()),
            format!("Logs: {}", self.places.log_file.display()),
        ];
        lines.extend(
            backup.map(|backup| format!("Previous agent backed up to: {}", backup.display())),
        );
        Ok(Placed {
            lines,
            warnings: Vec::new(),
        })
    }

    fn start(&self) -> Result<String, ServiceError> {
        self.check_label()?;
        let target = self.target();
        self.enable()?;
        if self.is_loaded() {
            self.must(&["kickstart", &target])?;
        } else {
            // `stop` unloads the agent, because launchd would start it again otherwise.
            self.bootstrap()?;
        }
        Ok(format!("Started LaunchAgent: {target}"))
    }

    fn restart(&self) -> Result<String, ServiceError> {
        self.check_label()?;
        self.enable()?;
        if self.is_loaded() {
            self.boot_out()?;
        }
        self.enable()?;
        self.bootstrap()?;
        Ok(format!("Restarted LaunchAgent: {}", self.target()))
    }

    fn stop(&self) -> Result<String, ServiceError> {
        self.boot_out()?;
        Ok(format!("Stopped LaunchAgent: {}", self.target()))
    }

    fn disable(&self) -> Result<(), ServiceError> {
        // Without this it is loaded again at the next login; `install` takes it back.
        self.must(&["disable", &self.target()])?;
        self.boot_out()
    }

    fn uninstall(&self) -> Result<Vec<String>, ServiceError> {
        if self.is_loaded() {
            self.boot_out()?;
        }
        let mut lines = Vec::new();
        if self.plist().exists() {
            let to = self.move_to_trash()?;
            lines.push(format!("Moved LaunchAgent to Trash: {}", to.display()));
        } else {
            lines.push(format!(
                "LaunchAgent not found at {}",
                self.plist().display()
            ));
        }
        lines.extend(self.remove_backup()?);
        let file = &self.places.environment_file;
        files::remove(file).map_err(Self::file_error(file))?;
        if let Some(folder) = file.parent() {
            // Only an empty folder goes, and it need not be there.
            fs::remove_dir(folder).ok();
        }
        Ok(lines)
    }

    fn drift(&self, installed: &Installed, program: &Path) -> Result<Vec<Drift>, ServiceError> {
        let Some(current) = self.read_agent()? else {
            return Ok(Vec::new());
        };
        let arguments = definition::run_arguments(&installed.command).unwrap_or_default();
        let arguments = match arguments {
            [env_file, _, log_file, _, rest @ ..]
                if env_file == ENV_FILE_OPTION && log_file == LOG_FILE_OPTION =>
            {
                rest
            }
            all => all,
        };
        let expected = Definition {
            program: program.to_owned(),
            run_arguments: arguments.to_vec(),
            environment: drift::expected_environment(installed, Platform::MacOs, &self.home),
        };
        let written = agent::render(&expected, &self.places)?;
        let written = Agent::parse(&written).map_err(agent::UnrenderableAgent::from)?;
        let plist = self.plist();
        Ok(drift::compare(
            &agent::values(current.dictionary(), &plist),
            &agent::values(&written, &plist),
        ))
    }

    fn start_command(&self) -> String {
        format!("launchctl bootstrap gui/$UID ~/Library/LaunchAgents/{LABEL}.plist")
    }

    fn log_command(&self) -> String {
        format!("tail -n 200 {}", self.places.log_file.display())
    }

    fn flag(&self) -> &'static str {
        ""
    }

    fn linger(&self) -> Option<Linger> {
        None
    }

    fn enable_linger(&self) -> Result<(), ServiceError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_value_counts() {
        let text = "gui/501/ai.openclaw.node = {\n\tstate = running\n\tpid = 4242\n\tlast exit code = 1\n\tsubmitted = {\n\t\tstate = other\n\t}\n}\n";
        assert_eq!(printed(text, "state"), Some("running"));
        assert_eq!(printed(text, "pid"), Some("4242"));
        assert_eq!(printed(text, "nothing"), None);
    }
}
