//! What is to be installed, whatever manager it is installed for.

use std::path::{Path, PathBuf};

/// Description of the service, as upstream has it.
pub const DESCRIPTION: &str = "OpenClaw Node Host";
/// The systemd unit's name; upstream has the same one, so there is one node per account.
pub const UNIT: &str = "openclaw-node.service";
/// The launchd agent's label, likewise.
pub const LABEL: &str = "ai.openclaw.node";

/// The variable by which upstream's tools know a service as one of OpenClaw's.
pub const MARKER: (&str, &str) = ("OPENCLAW_SERVICE_MARKER", "openclaw");
/// The variable that says which service it is.
pub const KIND: (&str, &str) = ("OPENCLAW_SERVICE_KIND", "node");

/// The name of this program, by which its own services are told from upstream's.
const PROGRAM_NAME: &str = "openclaw-node";

/// Folders that a command's `PATH` begins with (service §2.1). The installing shell's `PATH` is
/// never copied.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The same on macOS, where Homebrew has its own prefix.
const LAUNCHD_PATH: &str =
    "/opt/homebrew/bin:/opt/homebrew/sbin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
/// Folders below the home directory that follow.
const HOME_PATH: [&str; 4] = [".local/bin", ".npm-global/bin", "bin", ".nix-profile/bin"];
/// Folders of version managers that follow where they exist.
const VERSION_MANAGERS: [&str; 6] = [
    ".cargo/bin",
    ".bun/bin",
    ".volta/bin",
    ".asdf/shims",
    ".local/share/mise/shims",
    ".local/share/pnpm",
];

/// A service to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The program, absolute.
    pub program: PathBuf,
    /// What follows `run`, such as `--host`, `127.0.0.1`.
    pub run_arguments: Vec<String>,
    /// Variables that are no secrets, in the order that they are written in.
    pub environment: Vec<(String, String)>,
}

/// Who wrote an installed service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This program.
    Native,
    /// OpenClaw's own node host.
    Upstream,
    /// Somebody else: the name is the same, the markers are missing.
    Foreign,
}

impl Owner {
    /// Tells by the command and the markers.
    #[must_use]
    pub fn of(command: &[String], environment: &[(String, String)]) -> Self {
        let [program, rest @ ..] = command else {
            return Self::Foreign;
        };
        let is_this_program = Path::new(program)
            .file_name()
            .is_some_and(|name| name == PROGRAM_NAME);
        let has = |(name, value): (&str, &str)| {
            environment
                .iter()
                .any(|(known, found)| known == name && found == value)
        };
        let begins_with_run = rest.first().is_some_and(|word| word == "run");
        // Upstream's command has the word `node` before, so a renamed program is known as well.
        if begins_with_run && (is_this_program || has(KIND)) {
            Self::Native
        } else if has(KIND) || is_upstreams_node_run(command) {
            Self::Upstream
        } else {
            Self::Foreign
        }
    }
}

/// Whether a command line is `openclaw node run`, by whichever of its entries: behind a runtime and
/// a script, or a wrapper.
#[must_use]
pub fn is_upstreams_node_run(command: &[impl AsRef<str>]) -> bool {
    let is = |word: &dyn AsRef<str>, known: &str| word.as_ref() == known;
    let Some(at) = command
        .windows(2)
        .position(|pair| matches!(pair, [first, second] if is(first, "node") && is(second, "run")))
    else {
        return false;
    };
    command.iter().take(at).any(|word| {
        let path = Path::new(word.as_ref());
        let is_in_package = path.components().any(|part| part.as_os_str() == "openclaw");
        is_in_package || path.file_stem().is_some_and(|stem| stem == "openclaw")
    })
}

/// What follows `run` in a command of this program or of upstream.
#[must_use]
pub fn run_arguments(command: &[String]) -> Option<&[String]> {
    let at = command.iter().position(|word| word == "run")?;
    command.get(at + 1..)
}

/// The variables that mark a service, in upstream's order.
#[must_use]
pub fn markers() -> [(String, String); 5] {
    [
        ("OPENCLAW_LAUNCHD_LABEL", LABEL),
        ("OPENCLAW_SYSTEMD_UNIT", "openclaw-node"),
        ("OPENCLAW_LOG_PREFIX", "node"),
        MARKER,
        KIND,
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Which system a search path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Folders as Linux distributions have them.
    Linux,
    /// Folders as macOS has them.
    MacOs,
}

/// The `PATH` of a service: fixed folders, then those below `home`, then version managers that
/// `exists` finds.
#[must_use]
pub fn search_path(platform: Platform, home: &Path, exists: impl Fn(&Path) -> bool) -> String {
    let mut path = match platform {
        Platform::Linux => SYSTEM_PATH,
        Platform::MacOs => LAUNCHD_PATH,
    }
    .to_owned();
    let fixed = match platform {
        Platform::Linux => HOME_PATH.as_slice(),
        Platform::MacOs => &[],
    };
    let managers = VERSION_MANAGERS
        .iter()
        .map(|folder| home.join(folder))
        .filter(|folder| exists(folder));
    for folder in fixed.iter().map(|folder| home.join(folder)).chain(managers) {
        // A colon cannot be escaped in a search path.
        if let Some(folder) = folder.to_str().filter(|folder| !folder.contains(':')) {
            path.push(':');
            path.push_str(folder);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn the_owner_is_told_by_command_and_markers() {
        let none: Vec<(String, String)> = Vec::new();
        let marked: Vec<_> = markers().into();
        for (command, environment, owner) in [
            (
                &["/home/a/.local/bin/openclaw-node", "run", "--port", "1"] as &[&str],
                &marked,
                Owner::Native,
            ),
            (&["/usr/bin/openclaw-node", "run"], &none, Owner::Native),
            (&["/opt/renamed", "run"], &marked, Owner::Native),
            (&["/opt/renamed", "run"], &none, Owner::Foreign),
            (
                &[
                    "/usr/bin/node",
                    "/usr/lib/node_modules/openclaw/dist/index.js",
                    "node",
                    "run",
                ],
                &marked,
                Owner::Upstream,
            ),
            (
                &[
                    "/usr/bin/node",
                    "/usr/lib/node_modules/openclaw/dist/index.js",
                    "node",
                    "run",
                ],
                &none,
                Owner::Upstream,
            ),
            (
                &["/usr/bin/openclaw", "node", "run"],
                &none,
                Owner::Upstream,
            ),
            (&["/opt/wrapper"], &marked, Owner::Upstream),
            (&["/usr/bin/sleep", "600"], &none, Owner::Foreign),
            (&["/usr/bin/openclaw-node", "demo"], &none, Owner::Foreign),
            (&[], &none, Owner::Foreign),
        ] {
            assert_eq!(
                Owner::of(&words(command), environment),
                owner,
                "{command:?}"
            );
        }
    }

    #[test]
    fn a_command_line_is_upstreams_node_host_by_its_words() {
        let cases: [(&[&str], bool); 8] = [
            (
                &[
                    "/usr/bin/node",
                    "/opt/openclaw/dist/index.js",
                    "node",
                    "run",
                ],
                true,
            ),
            (
                &["node", "/x/openclaw.mjs", "--profile", "a", "node", "run"],
                true,
            ),
            (&["openclaw", "node", "run", "--host", "h"], true),
            (&["openclaw", "gateway", "run"], false),
            (&["openclaw", "node", "status"], false),
            (&["/usr/local/bin/openclaw-node", "run"], false),
            (&["node", "run", "openclaw"], false),
            (&["grep", "node", "run"], false),
        ];
        for (words, expected) in cases {
            assert_eq!(is_upstreams_node_run(words), expected, "{words:?}");
        }
    }

    #[test]
    fn the_search_path_is_fixed_but_for_what_exists() {
        let home = Path::new("/home/tester");
        assert_eq!(
            search_path(Platform::Linux, home, |_| false),
            "/usr/local/bin:/usr/bin:/bin:/home/tester/.local/bin:/home/tester/.npm-global/bin:/home/tester/bin:/home/tester/.nix-profile/bin"
        );
        assert!(
            search_path(Platform::Linux, home, |folder| folder
                .ends_with(".cargo/bin"))
            .ends_with(":/home/tester/.cargo/bin")
        );
        assert_eq!(
            search_path(Platform::MacOs, home, |_| false),
            "/opt/homebrew/bin:/opt/homebrew/sbin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        );
        assert!(!search_path(Platform::Linux, Path::new("/a:b"), |_| true).contains("/a:b"));
    }
}
