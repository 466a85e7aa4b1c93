//! What the words of a command mean on this machine (exec and approvals §4, §8.1).

#[cfg(test)]
pub(crate) mod scene;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use approvals::allowlist::{Analysis, Invocation, Resolution, Unanalysable};
use approvals::command::CommandLine;
use approvals::lexical;
use approvals::wrapper::runner::{self, Runner};
use approvals::wrapper::shell::{self, Shell};
use approvals::wrapper::{InnerArgv, TrustPlan};

use crate::environment::BaseEnvironment;
use crate::search;

/// How many package runners may stand inside one another (exec and approvals §8.1).
const MAX_RUNNERS: usize = 6;

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
        let mut argv = InnerArgv::whole(command.argv());
        for _ in 0..=MAX_RUNNERS {
            let plan = TrustPlan::of(argv.words());
            if plan.blocked.is_some() {
                return Analysis::Unanalysable(Unanalysable::BlockedWrapper);
            }
            match runner::unwrap(plan.execution_argv(argv.words())) {
                Runner::Absent | Runner::Other => {
                    // A payload that the sender vouched for shows only in the command itself.
                    let payload = command.payload().is_some();
                    return self.analyse_innermost(argv.words(), &plan, payload, cwd.as_deref());
                }
                Runner::Opaque
                | Runner::Around {
                    in_context: true, ..
                } => break,
                Runner::Around { .. } => {
                    let Some(next) = argv.suffix(plan.execution_index).behind_runner() else {
                        break;
                    };
                    argv = next;
                }
            }
        }
        Analysis::Unanalysable(Unanalysable::PackageRunner)
    }

    fn analyse_innermost(
        &self,
        words: &[String],
        plan: &TrustPlan,
        has_payload: bool,
        cwd: Option<&Path>,
    ) -> Analysis {
        let inner = plan.execution_argv(words);
        let target = plan.policy_argv(words);
        let shell = inner.first().and_then(|token| Shell::named(token));
        let given = shell.map(|shell| shell::classify(shell, inner, None));
        let hidden = match given {
            Some(shell::Invocation::Payload(_)) => true,
            // The multiplexer is judged, and what its shell is told is not part of that.
            Some(shell::Invocation::Opaque) => inner.len() != target.len(),
            Some(shell::Invocation::Script) | None => false,
        };
        if has_payload || hidden {
            return Analysis::Unanalysable(Unanalysable::ShellPayload);
        }
        let token = target.first().map_or("", String::as_str);
        let invocation = Invocation {
            argv: target.to_vec(),
            resolution: self.resolve(token, cwd),
        };
        match shell {
            Some(shell) if inner.len() == target.len() => {
                let script = shell::sole_script_position(shell, target)
                    .and_then(|position| target.get(position..))
                    .map(|words| self.script(words, cwd));
                Analysis::Shell {
                    shell: invocation,
                    script,
                }
            }
            Some(_) | None => Analysis::Program(invocation),
        }
    }

    /// A script with its arguments, as if it were run by itself.
    fn script(&self, words: &[String], cwd: Option<&Path>) -> Invocation {
        let token = words.first().map_or("", String::as_str);
        let named = search::expand_home(Path::new(token), self.environment.home());
        let path = Self::absolute(cwd.unwrap_or(self.cwd), &named);
        let mut argv = words.to_vec();
        if let Some(first) = argv.first_mut() {
            *first = path.to_string_lossy().into_owned();
        }
        let real_path = path.canonicalize().ok();
        let raw_token = token.to_owned();
        Invocation {
            argv,
            resolution: Resolution {
                raw_token,
                resolved_path: Some(path),
                real_path,
            },
        }
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

#[cfg(test)]
mod tests {
    use super::scene::{Scene, command};
    use super::*;

    #[test]
    fn paths_are_made_absolute_as_text() {
        for (path, absolute) in [
            ("", "/base"),
            (".", "/base"),
            ("a/../b/", "/base/b"),
            ("../x", "/x"),
            ("../../..", "/"),
            ("/a//b/.", "/a/b"),
        ] {
            assert_eq!(
                Host::absolute(Path::new("/base"), path),
                Path::new(absolute),
                "{path}"
            );
        }
    }

    fn judged(scene: &Scene, line: &str) -> String {
        let shown = |invocation: &Invocation| {
            let path = invocation
                .resolution
                .trusted_path()
                .map(Path::to_string_lossy);
            format!(
                "{} [{}]",
                path.unwrap_or_default(),
                invocation.argv.join(" ")
            )
        };
        match scene.host().analyse(&command(line), Some(".")) {
            Analysis::Program(program) => shown(&program),
            Analysis::Shell {
                shell,
                script: None,
            } => format!("shell {}", shown(&shell)),
            Analysis::Shell {
                script: Some(script),
                ..
            } => format!("script {}", shown(&script)),
            Analysis::Unanalysable(why) => format!("{why:?}"),
        }
    }

    #[test]
    fn an_allowlist_judges_what_is_behind_transparent_wrappers_and_runners() {
        let scene = Scene::new();
        scene
            .program("bin/npx")
            .program("bin/tool")
            .program("bin/busybox")
            .program("x.sh");
        let (echo, shell) = (scene.real("echo"), scene.real("sh"));
        let at = |name: &str| scene.path(name);
        for (line, expected) in [
            ("echo a", format!("{echo} [echo a]")),
            ("env nice -n5 echo a", format!("{echo} [echo a]")),
            ("nosuchprogram a", " [nosuchprogram a]".to_owned()),
            ("nice npx -y tool a", format!("{} [tool a]", at("bin/tool"))),
            ("npx npx npx tool", format!("{} [tool]", at("bin/tool"))),
            (
                "npx npx npx npx npx npx npx npx tool",
                "PackageRunner".to_owned(),
            ),
            ("npx -p x tool", "PackageRunner".to_owned()),
            ("npx", "PackageRunner".to_owned()),
            ("npx sudo tool", "BlockedWrapper".to_owned()),
            ("env A=1 echo a", "BlockedWrapper".to_owned()),
            ("npx sh -c ls", "ShellPayload".to_owned()),
            ("env sh -c ls", "ShellPayload".to_owned()),
            ("sh", format!("shell {shell} [sh]")),
            ("sh -lc ls", format!("shell {shell} [sh -lc ls]")),
            ("sh -x ./x.sh a", format!("script {0} [{0} a]", at("x.sh"))),
            ("sh ~/x.sh", format!("script {0} [{0}]", at("x.sh"))),
            ("sh -s ./x.sh", format!("shell {shell} [sh -s ./x.sh]")),
            (
                "busybox sh ./x.sh",
                format!("{} [busybox sh ./x.sh]", at("bin/busybox")),
            ),
            ("busybox sh -lc ls", "ShellPayload".to_owned()),
        ] {
            assert_eq!(judged(&scene, line), expected, "{line}");
        }
        let vouched = CommandLine::new(scene::words("sh -lc ls"), Some("ls")).unwrap();
        let payload = Analysis::Unanalysable(Unanalysable::ShellPayload);
        assert_eq!(scene.host().analyse(&vouched, None), payload);
    }

    #[test]
    fn a_wrapper_that_is_not_there_is_noticed() {
        let scene = Scene::new();
        scene.program("bin/stdbuf");
        for (line, expected) in [
            ("echo a", false),
            ("nosuchprogram", false),
            ("env echo a", false),
            ("stdbuf -oL nosuchprogram", false),
            ("env /nowhere/nice echo a", true),
            ("/nowhere/env sh -c ls", false),
        ] {
            let found = scene.host().has_unresolved_wrapper(&command(line), None);
            assert_eq!(found, expected, "{line}");
        }
    }
}
