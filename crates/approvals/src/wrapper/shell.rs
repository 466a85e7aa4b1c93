//! Shells as wrappers of a command line: `sh -c PAYLOAD` and its relatives (exec and approvals §3.4).

use super::executable_name;
use crate::command::{command_text, trim};

/// A known shell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shell {
    /// `sh` itself.
    Sh,
    /// Another shell with POSIX options and grammar.
    Posix,
    /// fish, which also runs `--init-command` and takes a command attached to `-c`.
    Fish,
    /// A shell with `-c` whose grammar is not analysed.
    Foreign,
    /// nu, which can also be told to read other startup files.
    Nu,
    /// csh, osh and tcsh, which read startup files whatever they are told.
    StartupBound,
    /// cmd and the PowerShells, whose command lines are not taken apart on this system.
    Windows,
}

impl Shell {
    /// The shell that an executable word names, with or without a path.
    #[must_use]
    pub fn named(token: &str) -> Option<Self> {
        match executable_name(token).as_str() {
            "sh" => Some(Self::Sh),
            "ash" | "bash" | "dash" | "ksh" | "mksh" | "yash" | "zsh" => Some(Self::Posix),
            "fish" => Some(Self::Fish),
            "elvish" | "xonsh" => Some(Self::Foreign),
            "nu" => Some(Self::Nu),
            "csh" | "osh" | "tcsh" => Some(Self::StartupBound),
            "cmd" | "powershell" | "pwsh" => Some(Self::Windows),
            _ => None,
        }
    }

    /// Whether its payloads and options follow the POSIX shell closely enough to be analysed.
    #[must_use]
    pub fn is_parseable(self) -> bool {
        matches!(self, Self::Sh | Self::Posix | Self::Fish)
    }

    /// Whether it takes POSIX shell options, so that startup options mean what they say.
    #[must_use]
    pub fn is_posix_like(self) -> bool {
        self != Self::Windows
    }

    fn is_payload_flag(self, word: &str) -> bool {
        PAYLOAD_FLAGS.contains(&word) || (self == Self::Nu && matches!(word, "-e" | "--execute"))
    }
}

const PAYLOAD_FLAGS: [&str; 5] = ["-c", "-lc", "--command", "--commands", "--cmdline"];
const VALUE_OPTIONS: [&str; 2] = ["--init-file", "--rcfile"];
const NU_STARTUP_OPTIONS: [&str; 4] = ["--config", "--env-config", "--plugin-config", "--plugins"];

/// What an argv that starts with a shell asks it to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Invocation {
    /// Read a script file or standard input.
    Script,
    /// Run a command line that is one of its arguments and that may be judged in the shell's place.
    Payload(Payload),
    /// Run code besides that command line (a login, interactive or configured start), or a command
    /// line that cannot be taken out of the argv: only the full argv says what happens.
    Opaque,
}

/// The command line that a shell is given as an argument.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Payload {
    /// The command line, trimmed; never blank.
    pub text: String,
    /// The command line exactly as the shell is given it.
    pub source: String,
    /// Which of the shell's words holds it: all of the word, or its end.
    pub position: usize,
    /// The words behind it, which it sees as `$0`, `$1` and so on.
    pub arguments: Vec<String>,
}

impl Payload {
    /// Whether non-blank arguments follow it.
    #[must_use]
    pub fn has_arguments(&self) -> bool {
        self.arguments.iter().any(|word| !trim(word).is_empty())
    }
}

/// Classifies `words`, whose first word names `shell`.
///
/// `raw` is the command text that came with the argv: `sh -lc PAYLOAD` may be judged by its payload
/// only where the sender shows that it means that text (exec and approvals §3.4, §12).
#[must_use]
pub fn classify(shell: Shell, words: &[String], raw: Option<&str>) -> Invocation {
    let opaque_start = match shell {
        Shell::StartupBound | Shell::Windows => true,
        Shell::Fish => has_fish_init_command(words) || has_attached_command(words),
        Shell::Nu => has_nu_startup_file(words),
        Shell::Sh | Shell::Posix | Shell::Foreign => false,
    };
    if opaque_start {
        return Invocation::Opaque;
    }
    let Some(found) = find_payload(shell, words) else {
        return Invocation::Script;
    };
    let meant = || raw == Some(found.payload.text.as_str()) || raw == Some(&command_text(words));
    if found.doubtful {
        return Invocation::Opaque;
    }
    let plain_login = shell == Shell::Sh && words.get(1).is_some_and(|word| word == "-lc");
    if plain_login && meant() {
        return Invocation::Payload(found.payload);
    }
    if found.login || found.interactive {
        return Invocation::Opaque;
    }
    Invocation::Payload(found.payload)
}

struct Found {
    payload: Payload,
    login: bool,
    interactive: bool,
    /// The shell may take another word for its command line than the one that was found.
    doubtful: bool,
}

/// The short options of a POSIX shell that leave the meaning of its command line alone. `k` is not
/// among them: it makes assignments of arguments.
const PLAIN_LETTERS: &str = "CETabcefhmnopuvx";

/// The values of `-o` that do.
const PLAIN_NAMES: [&str; 14] = [
    "allexport",
    "errexit",
    "errtrace",
    "functrace",
    "monitor",
    "noclobber",
    "noexec",
    "noglob",
    "notify",
    "nounset",
    "pipefail",
    "privileged",
    "verbose",
    "xtrace",
];

/// Whether the options before the command line at `position` leave its meaning alone, and it is a
/// word of its own. `words` starts with a shell.
#[must_use]
pub fn has_plain_start(words: &[String], position: usize) -> bool {
    let mut options = words.get(1..position).unwrap_or_default().iter();
    let mut gives_command = false;
    while let Some(word) = options.next() {
        let Some(letters) = short_letters(word, &['-', '+']) else {
            return false;
        };
        gives_command |= word.starts_with('-') && letters.contains('c');
        let is_plain =
            |letter: char| PLAIN_LETTERS.contains(letter) || (letter == 'l' && word == "-lc");
        if !letters.chars().all(is_plain) {
            return false;
        }
        for _ in 0..value_letters(letters) {
            if !options
                .next()
                .is_some_and(|name| PLAIN_NAMES.contains(&name.as_str()))
            {
                return false;
            }
        }
    }
    gives_command
}

/// Scans the shell's options up to the one that carries a command line.
fn find_payload(shell: Shell, words: &[String]) -> Option<Found> {
    let mut login = false;
    let mut interactive = false;
    let mut doubtful = false;
    let mut position = 1;
    while let Some(word) = words.get(position) {
        if word == "--" || !word.starts_with(['-', '+']) {
            return None;
        }
        login |= word == "--login" || has_short_flag(word, 'l');
        interactive |= word == "--interactive" || has_short_flag(word, 'i');
        let (at, text) = if shell.is_payload_flag(word) {
            (position + 1, words.get(position + 1)?.as_str())
        } else if let Some((_, text)) = word.split_once('=').filter(|(flag, _)| {
            shell == Shell::Nu && flag.starts_with("--") && shell.is_payload_flag(flag)
        }) {
            (position, text)
        } else if let Some(cluster) = CommandCluster::of(word) {
            doubtful |= word.starts_with('+');
            match cluster {
                CommandCluster::Attached(text) => (position, text),
                CommandCluster::Ahead(skipped) => {
                    let at = position + 1 + skipped;
                    (at, words.get(at)?.as_str())
                }
            }
        } else {
            position += option_width(word);
            continue;
        };
        let source = text.to_owned();
        let text = trim(text);
        if text.is_empty() {
            return None;
        }
        let payload = Payload {
            text: text.to_owned(),
            source,
            position: at,
            arguments: words.get(at + 1..).unwrap_or_default().to_vec(),
        };
        return Some(Found {
            // Most shells read options up to the first word that is none, and take that one.
            doubtful: doubtful || text.starts_with(['-', '+']),
            payload,
            login,
            interactive,
        });
    }
    None
}

/// A short option word such as `-ec`, in which `c` says that a command line is given.
enum CommandCluster<'a> {
    /// The command line is the rest of the word.
    Attached(&'a str),
    /// The command line is a later word, so many words after the next one.
    Ahead(usize),
}

impl<'a> CommandCluster<'a> {
    fn of(word: &'a str) -> Option<Self> {
        // Most shells take `+c` for `-c`.
        let letters = short_letters(word, &['-', '+'])?;
        let (_, rest) = letters.split_once('c')?;
        if rest.chars().all(|letter| letter.is_ascii_alphabetic()) {
            return Some(Self::Ahead(value_letters(letters)));
        }
        Some(Self::Attached(rest))
    }
}

/// The letters of a word of short options; none of the letters is a further dash.
fn short_letters<'a>(word: &'a str, signs: &[char]) -> Option<&'a str> {
    word.strip_prefix(signs)
        .filter(|letters| !letters.is_empty() && !letters.contains('-'))
}

fn has_short_flag(word: &str, flag: char) -> bool {
    short_letters(word, &['-', '+']).is_some_and(|letters| letters.contains(flag))
}

/// Each `o` and `O` among short options takes one of the following words.
fn value_letters(letters: &str) -> usize {
    letters
        .chars()
        .filter(|letter| matches!(letter, 'o' | 'O'))
        .count()
}

/// How many words an option that carries no command line takes, itself included.
fn option_width(word: &str) -> usize {
    if VALUE_OPTIONS.contains(&word) {
        return 2;
    }
    1 + short_letters(word, &['-', '+']).map_or(0, value_letters)
}

/// fish takes its own options also after the command line, but not after a script.
fn has_fish_init_command(words: &[String]) -> bool {
    let own: Vec<&str> = match find_payload(Shell::Fish, words) {
        Some(_) => words.iter().skip(1).map(String::as_str).collect(),
        None => options(words).collect(),
    };
    own.iter().any(|word| {
        word.starts_with("-C") || *word == "--init-command" || word.starts_with("--init-command=")
    })
}

/// `fish -cCOMMAND`, where other shells see more flags.
fn has_attached_command(words: &[String]) -> bool {
    options(words).any(|word| word.starts_with("-c") && word != "-c")
}

/// Which of nu's options take a value is not known here, so every word may be an option.
fn has_nu_startup_file(words: &[String]) -> bool {
    words.iter().skip(1).any(|word| {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        NU_STARTUP_OPTIONS.contains(&name)
    })
}

fn options(words: &[String]) -> impl Iterator<Item = &str> {
    words
        .iter()
        .skip(1)
        .map(String::as_str)
        .take_while(|word| *word != "--" && word.starts_with(['-', '+']))
}

/// Where the script file stands in `words`, whose first word names `shell`: the first argument that
/// is no option, if no command line is given and nothing says to read standard input
/// (exec and approvals §10).
#[must_use]
pub fn script_position(shell: Shell, words: &[String]) -> Option<usize> {
    if !shell.is_parseable() || find_payload(shell, words).is_some() {
        return None;
    }
    let signs: &[char] = if shell == Shell::Fish {
        &['-']
    } else {
        &['-', '+']
    };
    let mut position = 1;
    while let Some(word) = words.get(position) {
        match word.as_str() {
            "-s" => return None,
            "-" | "--" => return words.get(position + 1).map(|_| position + 1),
            _ if !word.starts_with(signs) => return Some(position),
            "--startup-script" => position += 2,
            _ => position += option_width(word),
        }
    }
    None
}

/// Where the script file stands, if it is all that the shell reads: no option before it gives a
/// command, names a startup file or sends the shell to standard input (exec and approvals §8.1).
#[must_use]
pub fn sole_script_position(shell: Shell, words: &[String]) -> Option<usize> {
    let position = script_position(shell, words)?;
    let reads_more = |word: &String| {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        matches!(
            name,
            "--rcfile" | "--init-file" | "--startup-file" | "--startup-script"
        ) || short_letters(word, &['-'])
            .is_some_and(|letters| letters.contains(['c', 'C', 's', 'S']))
    };
    let options = words.get(1..position).unwrap_or_default();
    (!options.iter().any(reads_more)).then_some(position)
}

/// Whether any option makes the shell read a startup file, standard input or a terminal besides its
/// script (exec and approvals §10).
#[must_use]
pub fn loads_more_than_its_script(words: &[String]) -> bool {
    words
        .iter()
        .skip(1)
        .take_while(|word| *word != "--")
        .any(|word| {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_lowercase(), Some(value)),
                None => (word.to_lowercase(), None),
            };
            matches!(
                name.as_str(),
                "--init-file" | "--rcfile" | "--startup-script"
            ) || matches!(word.as_str(), "-s" | "--stdin" | "--interactive")
                || (value.is_none() && has_short_flag(word, 'i'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_script_is_the_first_argument_that_is_no_option() {
        for (line, position) in [
            ("sh ./x.sh a", Some(1)),
            ("sh -eu -o pipefail ./x.sh", Some(4)),
            ("bash +O extglob -x ./x.sh", Some(4)),
            ("bash --rcfile rc ./x.sh", Some(3)),
            ("bash --norc ./x.sh", Some(2)),
            ("sh -- ./x.sh", Some(2)),
            ("sh - ./x.sh", Some(2)),
            ("fish +x", Some(1)),
            ("sh", None),
            ("sh -x", None),
            ("sh --", None),
            ("sh -s ./x.sh", None),
            ("sh -c ./x.sh", None),
            ("sh -xc ./x.sh", None),
            ("nu ./x.nu", None),
            ("csh ./x.csh", None),
        ] {
            let words = words(line);
            let shell = Shell::named(&words[0]).unwrap();
            assert_eq!(script_position(shell, &words), position, "{line}");
        }
    }

    #[test]
    fn a_script_is_not_alone_where_the_shell_reads_more() {
        for (line, position) in [
            ("bash -x ./x.sh", Some(2)),
            ("bash ./x.sh -s", Some(1)),
            ("bash --rcfile rc ./x.sh", None),
            ("bash --init-file rc ./x.sh", None),
            ("bash -es ./x.sh", None),
            ("bash -C ./x.sh", None),
        ] {
            assert_eq!(
                sole_script_position(Shell::Posix, &words(line)),
                position,
                "{line}"
            );
        }
        for (line, expected) in [
            ("bash --rcfile rc ./x.sh", true),
            ("bash --init-file=rc ./x.sh", true),
            ("bash --startup-script f", true),
            ("bash -s", true),
            ("bash --stdin", true),
            ("bash -xi ./x.sh", true),
            ("bash ./x.sh -i", true),
            ("bash -- ./x.sh -i", false),
            ("bash -x ./x.sh", false),
        ] {
            assert_eq!(loads_more_than_its_script(&words(line)), expected, "{line}");
        }
    }
}
