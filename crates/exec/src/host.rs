//! What the words of a command mean on this machine (exec and approvals §4, §8.1).

#[cfg(test)]
pub(crate) mod scene;

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

#[cfg(test)]
mod tests {
    use approvals::allowlist::{Invocation, Target, Unanalysable};

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
        let target = |target: &Target| match target {
            Target::Program(program) => shown(program),
            Target::Package(program) => format!("package {}", shown(program)),
            Target::Shell {
                script: Some(script),
                ..
            } => format!("script {}", shown(script)),
            Target::Shell {
                shell,
                script: None,
            } => format!("shell {}", shown(shell)),
            Target::Unanalysable(why) => format!("{why:?}"),
        };
        match scene.host().analyse(&command(line), Some(".")) {
            Analysis::Direct(judged) => target(&judged),
            Analysis::Payload(payload) => {
                let commands = payload.simple_commands();
                let commands: Vec<String> = commands
                    .iter()
                    .map(|command| target(&command.target))
                    .collect();
                format!("payload {}", commands.join("; "))
            }
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
            (
                "nice npx -y tool a",
                format!("package {} [tool a]", at("bin/tool")),
            ),
            (
                "npx npx npx tool",
                format!("package {} [tool]", at("bin/tool")),
            ),
            (
                "npx npx npx npx npx npx npx npx tool",
                "PackageRunner".to_owned(),
            ),
            ("npx -p x tool", "PackageRunner".to_owned()),
            ("npx", "PackageRunner".to_owned()),
            ("npx sudo tool", "BlockedWrapper".to_owned()),
            ("env A=1 echo a", "BlockedWrapper".to_owned()),
            ("npx sh -c ls", "ShellPayload".to_owned()),
            ("env sh -c ls", format!("payload {} [ls]", scene.real("ls"))),
            ("bash -kc ls", "ShellPayload".to_owned()),
            ("busybox sh -c ls", "ShellPayload".to_owned()),
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
        let payload = scene.host().analyse(&vouched, None);
        assert!(matches!(payload, Analysis::Payload(_)), "{payload:?}");
    }

    #[test]
    fn a_file_that_only_bears_the_name_of_a_shell_or_wrapper_hides_the_command() {
        let scene = Scene::new();
        for name in ["nice", "env", "sh", "npx"] {
            scene.program(name);
        }
        scene
            .program("bin/npx")
            .program("bin/tool")
            .write("x.sh", "");
        std::os::unix::fs::symlink("/usr/bin/python3", scene.path("timeout")).unwrap();
        for (line, expected) in [
            ("./nice echo a", "ForeignWrapper"),
            ("./env echo a", "ForeignWrapper"),
            ("./npx tool", "ForeignWrapper"),
            ("nice ./env echo a", "ForeignWrapper"),
        ] {
            assert_eq!(judged(&scene, line), expected, "{line}");
        }
        for argv in [["./sh", "-c", "echo a"], ["/bin/sh", "-c", "./nice echo a"]] {
            let argv = argv.map(str::to_owned).to_vec();
            let command = CommandLine::new(argv, None).unwrap();
            let analysis = scene.host().analyse(&command, Some("."));
            let target = match &analysis {
                Analysis::Direct(target) => target,
                Analysis::Payload(payload) => &payload.simple_commands()[0].target,
            };
            let foreign = Target::Unanalysable(Unanalysable::ForeignWrapper);
            assert_eq!(*target, foreign, "{command:?}");
        }
        let shell = judged(&scene, "./sh ./x.sh");
        assert!(
            shell.starts_with("shell "),
            "a foreign shell's script is not what runs: {shell}"
        );
        assert_eq!(
            judged(&scene, "/bin/sh ./x.sh"),
            format!("script {0} [{0}]", scene.path("x.sh"))
        );
        if Path::new("/usr/bin/python3").exists() {
            assert_eq!(judged(&scene, "./timeout 5 echo a"), "ForeignWrapper");
        }
    }

    #[test]
    fn relative_paths_mean_nothing_once_the_directory_may_have_changed() {
        let scene = Scene::new();
        scene.program("tool");
        for payload in ["./tool", "cd / && ./tool"] {
            let argv = ["sh", "-c", payload].map(str::to_owned).to_vec();
            let command = CommandLine::new(argv, None).unwrap();
            let Analysis::Payload(analysed) = scene.host().analyse(&command, Some(".")) else {
                panic!("{payload}");
            };
            let commands = analysed.simple_commands();
            let last = commands.last().unwrap();
            let found = last.target.resolution().unwrap().resolved_path.is_some();
            assert_eq!(found, commands.len() == 1, "{payload}");
        }
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
