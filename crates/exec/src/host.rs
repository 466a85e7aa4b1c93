//! What the words of a command mean on this machine (exec and approvals §4, §8.1).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use approvals::allowlist::Resolution;
use approvals::analysis::{Analysis, Directory, Programs};
use approvals::command::CommandLine;
use approvals::lexical;
use approvals::skills::SkillBins;
use approvals::wrapper::TrustPlan;

use crate::environment::BaseEnvironment;
use crate::search;

/// This machine as commands see it: where programs are searched and where relative paths count from.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    environment: &'a BaseEnvironment,
    cwd: &'a Path,
}

impl<'a> Host<'a> {
    /// A host with the node's environment and the node's own working directory, which is absolute.
    #[must_use]
    pub fn new(environment: &'a BaseEnvironment, cwd: &'a Path) -> Self {
        Self { environment, cwd }
    }

    /// The node's own working directory.
    #[must_use]
    pub fn cwd(&self) -> &'a Path {
        self.cwd
    }

    /// Whether the node was started with a file for shells to read first.
    #[must_use]
    pub fn has_shell_startup(&self) -> bool {
        self.environment.has_shell_startup()
    }

    /// The absolute path of `path`, a relative one from `base`, without looking at the disk.
    #[must_use]
    pub fn absolute(base: &Path, path: impl AsRef<OsStr>) -> PathBuf {
        let joined = base.join(Path::new(path.as_ref()));
        match joined.to_str() {
            Some(joined) => {
                let normal = lexical::normalise(joined);
                let bare = normal.trim_end_matches('/');
                PathBuf::from(if bare.is_empty() { "/" } else { bare })
            }
            // Only a directory that the node itself was started in can have such a name.
            None => joined,
        }
    }

    /// Looks up an executable word. `cwd` is where the command will run, if that is known; it is
    /// absolute.
    #[must_use]
    pub fn resolve(&self, token: &str, cwd: Option<&Path>) -> Resolution {
        search::resolve(
            token,
            cwd,
            self.environment.search_path(),
            self.environment.home(),
        )
    }

    /// What an allowlist has to judge about a command. `cwd` is what the request names.
    #[must_use]
    pub fn analyse(&self, command: &CommandLine, cwd: Option<&str>) -> Analysis {
        let cwd = cwd.map(|cwd| Self::absolute(self.cwd, cwd));
        Analysis::of(command, &ProgramsIn { host: self, cwd })
    }

    /// The gateway's skill executables, as this machine has them (exec and approvals §8.2).
    #[must_use]
    pub fn resolve_skills(&self, names: &[String]) -> SkillBins {
        SkillBins::new(
            names
                .iter()
                .map(|name| (name.clone(), self.resolve(name, None))),
        )
    }

    /// Whether a wrapper around the command is itself not to be found, so that it cannot be what
    /// was approved or allowed (exec and approvals §3.3, §5). `cwd` is what the request names.
    #[must_use]
    pub fn has_unresolved_wrapper(&self, command: &CommandLine, cwd: Option<&str>) -> bool {
        let cwd = cwd.map(|cwd| Self::absolute(self.cwd, cwd));
        let unresolved = |word: &String| self.resolve(word, cwd.as_deref()).resolved_path.is_none();
        let wrappers = TrustPlan::of(command.argv()).wrappers;
        command.payload().is_none()
            && wrappers
                .iter()
                .filter_map(|wrapper| command.argv().get(wrapper.index))
                .any(unresolved)
    }
}

/// The programs of a host for a command that starts in a directory, if that is known.
struct ProgramsIn<'a> {
    host: &'a Host<'a>,
    cwd: Option<PathBuf>,
}

impl ProgramsIn<'_> {
    /// Whether which file a word means depends on the directory.
    fn depends_on_directory(&self, token: &str) -> bool {
        if token.contains(['/', '\\']) {
            !token.starts_with(['/', '~'])
        } else {
            search::has_relative_folder(self.host.environment.search_path())
        }
    }
}

impl Programs for ProgramsIn<'_> {
    fn resolve(&self, token: &str, directory: Directory) -> Resolution {
        match directory {
            Directory::Unknown if self.depends_on_directory(token) => unresolved(token),
            Directory::Unknown | Directory::Start => self.host.resolve(token, self.cwd.as_deref()),
        }
    }

    fn resolve_script(&self, token: &str, directory: Directory) -> Resolution {
        let is_relative = !token.starts_with(['/', '~']);
        if directory == Directory::Unknown && is_relative {
            return unresolved(token);
        }
        let named = search::expand_home(Path::new(token), self.host.environment.home());
        let path = Host::absolute(self.cwd.as_deref().unwrap_or(self.host.cwd), &named);
        Resolution {
            raw_token: token.to_owned(),
            real_path: path.canonicalize().ok(),
            resolved_path: Some(path),
        }
    }
}

fn unresolved(token: &str) -> Resolution {
    Resolution {
        raw_token: token.to_owned(),
        ..Resolution::default()
    }
}
