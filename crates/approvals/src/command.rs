//! A command line as a request gives it: its words, the text a human is shown, and what shell it
//! reaches (exec and approvals §3).

use serde_json::Value;

use crate::shell::Dialect;
use crate::wrapper::shell::{self, Invocation, Shell};
use crate::wrapper::{InnerArgv, MAX_WRAPPERS, dispatch, env, executable_name};

/// White space as the gateway's language sees it, so that trimming and quoting agree with it.
#[must_use]
pub fn is_space(letter: char) -> bool {
    letter == '\u{feff}' || (letter.is_whitespace() && letter != '\u{85}')
}

/// `text` without [white space](is_space) at its ends.
#[must_use]
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// A JSON value as the gateway's language turns it into text, which is how words of a command that
/// are no strings are read (exec and approvals §3.1).
#[must_use]
pub fn javascript_text(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), number_text),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let texts: Vec<String> = items
                .iter()
                .map(|item| {
                    if item.is_null() {
                        String::new()
                    } else {
                        javascript_text(item)
                    }
                })
                .collect();
            texts.join(",")
        }
        Value::Object(_) => "[object Object]".to_owned(),
    }
}

/// The shortest digits that name `number`, in full from 10⁻⁶ up to 10²¹ and else with an exponent.
fn number_text(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let sign = if number < 0.0 { "-" } else { "" };
    let text = match usize::try_from(exponent) {
        Ok(exponent @ 0..=20) if digits.len() <= exponent + 1 => {
            format!("{digits:0<width$}", width = exponent + 1)
        }
        Ok(exponent @ 0..=20) => {
            let (whole, fraction) = digits.split_at(exponent + 1);
            format!("{whole}.{fraction}")
        }
        Err(_) if exponent >= -6 => {
            let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or_default());
            format!("0.{zeros}{digits}")
        }
        Ok(_) => format!("{mantissa}e+{exponent}"),
        Err(_) => format!("{mantissa}e{exponent}"),
    };
    format!("{sign}{text}")
}

/// The text that stands for an argv: an empty word as `""`, a word with white space or `"` in
/// double quotes with `"` escaped, any other as it is (exec and approvals §3.1).
#[must_use]
pub fn command_text(argv: &[String]) -> String {
    let mut text = String::new();
    for (position, word) in argv.iter().enumerate() {
        if position > 0 {
            text.push(' ');
        }
        if word.is_empty() || word.contains(|letter| letter == '"' || is_space(letter)) {
            text.push('"');
            text.push_str(&word.replace('"', "\\\""));
            text.push('"');
        } else {
            text.push_str(word);
        }
    }
    text
}

/// Why a command line is refused. The text is what the gateway is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// There is no command.
    #[error("command required")]
    Required,
    /// There is a text for the command but no command.
    #[error("rawCommand requires params.command")]
    TextWithoutCommand,
    /// The text stands for another command.
    #[error("INVALID_REQUEST: rawCommand does not match command")]
    TextMismatch,
}

/// What shell a command line reaches, through wrappers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ShellUse {
    /// None.
    None,
    /// One that reads a script file or standard input.
    Script,
    /// One that runs a command line, which may be judged in its place.
    Payload(ShellPayload),
    /// One whose start or command line is not open to judgement: only the full argv says what
    /// happens ("blocked shell wrapper", exec and approvals §3.4).
    Opaque,
}

/// The command line that a shell is given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShellPayload {
    /// The command line, trimmed; never blank.
    pub text: String,
    /// The command line exactly as the shell is given it.
    pub source: String,
    /// How the shell reads it; `None` where its command lines are not analysed.
    pub dialect: Option<Dialect>,
    /// Whether the options before it leave its meaning alone.
    pub has_plain_start: bool,
    /// Which word of the full argv ends in it; `None` where it only exists inside an `env -S` string.
    pub index: Option<usize>,
}

/// A command line whose text is known to stand for its words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandLine {
    argv: Vec<String>,
    text: String,
    preview: Option<String>,
    shell: ShellUse,
}

impl CommandLine {
    /// Reads an argv and the text that came with it; a blank text counts as absent.
    ///
    /// # Errors
    /// An empty argv, or a text that is neither the command's text nor its preview.
    pub fn new(argv: Vec<String>, raw: Option<&str>) -> Result<Self, CommandError> {
        let raw = raw.map(trim).filter(|raw| !raw.is_empty());
        if argv.is_empty() {
            return Err(match raw {
                Some(_) => CommandError::TextWithoutCommand,
                None => CommandError::Required,
            });
        }
        let text = command_text(&argv);
        let (shell, preview) = reach(&argv, raw);
        if raw.is_some_and(|raw| raw != text && preview.as_deref() != Some(raw)) {
            return Err(CommandError::TextMismatch);
        }
        Ok(Self {
            argv,
            text,
            preview,
            shell,
        })
    }

    /// The words; never empty.
    #[must_use]
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    /// The command's text (exec and approvals §3.1).
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The shell payload alone, where it says everything there is to say: no `env` changes what it
    /// sees and no arguments follow it.
    #[must_use]
    pub fn preview(&self) -> Option<&str> {
        self.preview.as_deref()
    }

    /// What shell the command line reaches.
    #[must_use]
    pub fn shell(&self) -> &ShellUse {
        &self.shell
    }

    /// The command line that a shell is given and that may be judged in its place.
    #[must_use]
    pub fn payload(&self) -> Option<&str> {
        match &self.shell {
            ShellUse::Payload(payload) => Some(&payload.text),
            ShellUse::None | ShellUse::Script | ShellUse::Opaque => None,
        }
    }

    /// The words with another command line in the place of the shell's; `None` where there is none,
    /// or none that stands in the argv.
    #[must_use]
    pub fn with_payload(&self, payload: &str) -> Option<Vec<String>> {
        let ShellUse::Payload(given) = &self.shell else {
            return None;
        };
        let mut argv = self.argv.clone();
        let word = argv.get_mut(given.index?)?;
        // The word may start with the options that the command line is attached to.
        let options = word.strip_suffix(&given.source)?;
        *word = format!("{options}{payload}");
        Some(argv)
    }

    /// Whether it reaches any shell at all, so that environment overrides are reduced
    /// (exec and approvals §6).
    #[must_use]
    pub fn is_shell_wrapper(&self) -> bool {
        self.shell != ShellUse::None
    }

    /// The names that `env NAME=…` assigns on the way to the command, sorted, each once; also those
    /// inside `env -S` strings (exec and approvals §6, D5).
    #[must_use]
    pub fn assigned_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut inner = InnerArgv::whole(&self.argv);
        for _ in 0..MAX_WRAPPERS {
            if let Some(prelude) = env_prelude(&inner) {
                names.extend(prelude.assigned);
            }
            let Some(next) = inner.behind_dispatch() else {
                break;
            };
            inner = next;
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn env_prelude(argv: &InnerArgv<'_>) -> Option<env::Prelude> {
    (executable_name(argv.executable()) == "env")
        .then(|| env::Prelude::of(argv.words()))
        .flatten()
}

/// Follows every wrapper to a shell, and says what the shell is asked to do and what of it may be
/// shown alone.
fn reach(argv: &[String], raw: Option<&str>) -> (ShellUse, Option<String>) {
    let mut inner = InnerArgv::whole(argv);
    let mut changes_environment = false;
    let mut wrappers = 0;
    let shell = loop {
        let is_dispatch = dispatch::is_dispatch(inner.executable());
        let is_multiplexer = crate::wrapper::is_multiplexer(inner.executable());
        if !is_dispatch && !is_multiplexer {
            break Shell::named(inner.executable());
        }
        changes_environment |=
            env_prelude(&inner).is_some_and(|prelude| prelude.changes_environment);
        let next = if is_dispatch {
            inner.behind_dispatch()
        } else {
            inner.behind_multiplexer()
        };
        match next {
            Some(next) if wrappers < MAX_WRAPPERS => inner = next,
            _ => break None,
        }
        wrappers += 1;
    };
    let Some(shell) = shell else {
        return (ShellUse::None, None);
    };
    match shell::classify(shell, inner.words(), raw) {
        Invocation::Script => (ShellUse::Script, None),
        Invocation::Opaque => (ShellUse::Opaque, None),
        Invocation::Payload(payload) => {
            let alone = !changes_environment && !payload.has_arguments();
            let preview = alone.then(|| payload.text.clone());
            let payload = ShellPayload {
                dialect: Dialect::of(inner.executable()),
                has_plain_start: shell::has_plain_start(inner.words(), payload.position),
                index: inner.index_of(payload.position),
                text: payload.text,
                source: payload.source,
            };
            (ShellUse::Payload(payload), preview)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn read(words: &[&str], raw: Option<&str>) -> Result<CommandLine, CommandError> {
        CommandLine::new(argv(words), raw)
    }

    #[test]
    fn words_are_read_as_the_gateways_language_shows_them() {
        for (value, text) in [
            (json!("a"), "a"),
            (json!(null), "null"),
            (json!(true), "true"),
            (json!(0), "0"),
            (json!(-0.0), "0"),
            (json!(123), "123"),
            (json!(-1.50), "-1.5"),
            (json!(0.1), "0.1"),
            (json!(0.000001), "0.000001"),
            (json!(0.0000015), "0.0000015"),
            (json!(1e-7), "1e-7"),
            (json!(1.5e-7), "1.5e-7"),
            (json!(1e20), "100000000000000000000"),
            (json!(1e21), "1e+21"),
            (json!(-1.25e22), "-1.25e+22"),
            (json!(9_007_199_254_740_993_u64), "9007199254740992"),
            (
                json!(18_446_744_073_709_551_615_u64),
                "18446744073709552000",
            ),
            (json!([]), ""),
            (json!(["a", [1, null], null, {}]), "a,1,,,[object Object]"),
            (json!({"a": 1}), "[object Object]"),
        ] {
            assert_eq!(javascript_text(&value), text, "{value}");
        }
    }

    #[test]
    fn the_text_quotes_words_that_need_it() {
        for (words, text) in [
            (&["echo", "hi there"][..], r#"echo "hi there""#),
            (&["printf", "[%s]", "", "x"], r#"printf [%s] "" x"#),
            (&["sh", "-c", r#"$0 "$1""#], r#"sh -c "$0 \"$1\"""#),
            (&["a\\b", "$HOME", "'x'"], r"a\b $HOME 'x'"),
            (
                &["a\u{a0}b", "c\u{feff}", "d\u{85}"],
                "\"a\u{a0}b\" \"c\u{feff}\" d\u{85}",
            ),
        ] {
            assert_eq!(command_text(&argv(words)), text);
        }
    }

    #[test]
    fn a_text_must_stand_for_the_command() {
        let mismatch = Err(CommandError::TextMismatch);
        #[rustfmt::skip]
        let cases: &[(&[&str], &str, Result<(), CommandError>)] = &[
            (&["/bin/echo", "hi there"], r#" /bin/echo "hi there" "#, Ok(())),
            (&["/bin/echo", "a"], "   ", Ok(())),
            (&["/bin/echo", "a"], "/bin/echo b", mismatch),
            (&["/bin/sh", "-c", "echo hi"], "echo hi", Ok(())),
            (&["/bin/sh", "-c", " echo hi "], "echo hi", Ok(())),
            (&["/bin/sh", "-c", "echo hi"], r#"/bin/sh -c "echo hi""#, Ok(())),
            (&["/bin/sh", "-lc", "echo hi"], "echo hi", Ok(())),
            (&["/bin/sh", "-lc", "echo hi"], r#"/bin/sh -lc "echo hi""#, Ok(())),
            (&["/bin/sh", "-lc", r#"$0 "$1""#, "touch", "m"], r#"$0 "$1""#, mismatch),
            (&["/bin/sh", "-c", "echo hi", " "], "echo hi", Ok(())),
            (&["/usr/bin/env", "sh", "-c", "echo hi"], "echo hi", Ok(())),
            (&["/usr/bin/env", "A=1", "sh", "-c", "echo hi"], "echo hi", mismatch),
            (&["/usr/bin/env", "bash", "-lc", "echo hi"], "echo hi", mismatch),
            (&["/bin/bash", "-lc", "echo a"], "echo a", mismatch),
            (&["sudo", "sh", "-c", "echo hi"], "echo hi", mismatch),
            (&["busybox", "sh", "-c", "echo hi"], "echo hi", Ok(())),
            (&["csh", "-c", "echo hi"], "echo hi", mismatch),
        ];
        for (words, raw, expected) in cases {
            assert_eq!(
                read(words, Some(raw)).map(|_| ()),
                *expected,
                "{words:?} {raw}"
            );
        }
        assert_eq!(read(&[], None), Err(CommandError::Required));
        assert_eq!(read(&[], Some(" ")), Err(CommandError::Required));
        assert_eq!(read(&[], Some("x")), Err(CommandError::TextWithoutCommand));
    }

    #[test]
    fn what_a_shell_is_given_is_told_through_wrappers() {
        let payload = |text: &str| {
            ShellUse::Payload(ShellPayload {
                text: text.to_owned(),
                source: text.to_owned(),
                dialect: None,
                has_plain_start: false,
                index: None,
            })
        };
        #[rustfmt::skip]
        let cases: &[(&[&str], ShellUse)] = &[
            (&["echo", "sh"], ShellUse::None),
            (&["sh"], ShellUse::Script),
            (&["/bin/SH.exe", "x.sh"], ShellUse::Script),
            (&["sh", "x.sh", "-c", "echo"], ShellUse::Script),
            (&["sh", "--", "-c", "echo"], ShellUse::Script),
            (&["sh", "-c"], ShellUse::Script),
            (&["sh", "-c", "  "], ShellUse::Script),
            (&["sh", "-c", "echo"], payload("echo")),
            (&["bash", "-ec", "echo"], payload("echo")),
            (&["bash", "-euxc", "echo"], payload("echo")),
            (&["bash", "-ceu", "echo"], payload("echo")),
            (&["bash", "-euo", "pipefail", "-c", "echo"], payload("echo")),
            (&["bash", "-ceuo", "pipefail", "echo"], payload("echo")),
            (&["bash", "-cecho ab"], payload("echo ab")),
            (&["bash", "-O", "extglob", "+o", "x", "-c", "echo"], payload("echo")),
            (&["bash", "--rcfile", "-c", "-c", "echo"], payload("echo")),
            (&["zsh", "--command", "echo"], payload("echo")),
            (&["env", "A=1", "sh", "-c", "echo"], payload("echo")),
            (&["env", "-S", "A=1 sh -c 'echo a'"], payload("echo a")),
            (&["nice", "timeout", "5", "sh", "-c", "echo"], payload("echo")),
            (&["toybox", "--", "sh", "-c", "echo"], payload("echo")),
            (&["fish", "-c", "echo"], payload("echo")),
            (&["nu", "--execute", "echo"], payload("echo")),
            (&["nu", "--commands=echo"], payload("echo")),
            (&["xonsh", "-c", "echo"], payload("echo")),
            (&["sh", "-lc", "echo"], ShellUse::Opaque),
            (&["bash", "-l", "-c", "echo"], ShellUse::Opaque),
            (&["bash", "--login", "-c", "echo"], ShellUse::Opaque),
            (&["bash", "-ic", "echo"], ShellUse::Opaque),
            (&["bash", "--interactive", "-c", "echo"], ShellUse::Opaque),
            (&["sh", "+c", "echo"], ShellUse::Opaque),
            (&["bash", "-e", "+xc", "echo"], ShellUse::Opaque),
            (&["bash", "+l", "-c", "echo"], ShellUse::Opaque),
            (&["sh", "-c", "--", "echo"], ShellUse::Opaque),
            (&["sh", "-c", "-", "echo"], ShellUse::Opaque),
            (&["bash", "-c", "-l", "echo"], ShellUse::Opaque),
            (&["bash", "-c", "+x", "echo"], ShellUse::Opaque),
            (&["bash", "-l", "x.sh"], ShellUse::Script),
            (&["fish", "-C", "evil", "-c", "echo"], ShellUse::Opaque),
            (&["fish", "-cecho hi"], ShellUse::Opaque),
            (&["fish", "-c", "echo", "--init-command=evil"], ShellUse::Opaque),
            (&["nu", "--config", "f", "-c", "echo"], ShellUse::Opaque),
            (&["nu", "--config=f", "x.nu"], ShellUse::Opaque),
            (&["nu", "-l", "-c", "echo"], ShellUse::Opaque),
            (&["tcsh", "x.csh"], ShellUse::Opaque),
            (&["pwsh", "-Command", "echo"], ShellUse::Opaque),
            (&["busybox", "awk", "x"], ShellUse::None),
            (&["sudo", "sh", "-c", "echo"], ShellUse::None),
            (&["nice", "nice", "nice", "nice", "sh", "-c", "echo"], payload("echo")),
            (&["nice", "nice", "nice", "nice", "nice", "sh", "-c", "echo"], ShellUse::None),
        ];
        for (words, expected) in cases {
            let command = read(words, None).unwrap();
            let shell = match command.shell().clone() {
                ShellUse::Payload(given) => payload(&given.text),
                other => other,
            };
            assert_eq!(shell, *expected, "{words:?}");
            assert_eq!(
                command.is_shell_wrapper(),
                *expected != ShellUse::None,
                "{words:?}"
            );
        }
    }

    #[test]
    fn a_login_payload_is_told_where_the_sender_shows_that_it_means_it() {
        let words = ["/bin/sh", "-lc", "echo a"];
        for (raw, payload) in [
            (None, None),
            (Some("echo a"), Some("echo a")),
            (Some(r#"/bin/sh -lc "echo a""#), Some("echo a")),
        ] {
            assert_eq!(read(&words, raw).unwrap().payload(), payload, "{raw:?}");
        }
        let full = r#"env sh -lc "echo a""#;
        let wrapped = read(&["env", "sh", "-lc", "echo a"], Some(full)).unwrap();
        assert_eq!(wrapped.payload(), None);
    }

    #[test]
    fn assigned_names_are_told_through_wrappers_and_split_strings() {
        for (words, names) in [
            (&["echo", "A=1"][..], &[][..]),
            (
                &["env", "PYTHONPATH=/x", "BASH_ENV=y", "FOO=1", "echo"],
                &["BASH_ENV", "FOO", "PYTHONPATH"],
            ),
            (
                &[
                    "nice",
                    "env",
                    "FOO=1",
                    "env",
                    "LD_PRELOAD=z",
                    "FOO=2",
                    "echo",
                ],
                &["FOO", "LD_PRELOAD"],
            ),
            (&["env", "-S", "LD_PRELOAD=z echo hi"], &["LD_PRELOAD"]),
            (&["env", "-S", "env LD_PRELOAD=z echo hi"], &["LD_PRELOAD"]),
            (&["nice", "nice", "nice", "env", "A=1", "echo"], &["A"]),
            (&["sudo", "env", "A=1", "echo"], &[]),
        ] {
            assert_eq!(
                read(words, None).unwrap().assigned_names(),
                names,
                "{words:?}"
            );
        }
    }

    #[test]
    fn another_payload_takes_the_place_of_the_given_one() {
        for (words, expected) in [
            (&["sh", "-c", " a b "][..], Some(&["sh", "-c", "X"][..])),
            (
                &["nice", "sh", "-ec", "a", "0", "1"],
                Some(&["nice", "sh", "-ec", "X", "0", "1"]),
            ),
            (
                &["bash", "-ceuo", "pipefail", "a"],
                Some(&["bash", "-ceuo", "pipefail", "X"]),
            ),
            (&["bash", "-ca b"], Some(&["bash", "-cX"])),
            (&["env", "-S", "sh -c 'a'"], None),
            (
                &["env", "-S", "A=1", "sh", "-c", "a"],
                Some(&["env", "-S", "A=1", "sh", "-c", "X"]),
            ),
            (&["sh", "x.sh"], None),
        ] {
            let rewritten = read(words, None).unwrap().with_payload("X");
            assert_eq!(rewritten, expected.map(argv), "{words:?}");
        }
    }

    #[test]
    fn only_plain_options_leave_the_payload_its_meaning() {
        for (words, expected) in [
            (&["sh", "-c", "a"][..], true),
            (&["sh", "-euc", "a"], true),
            (&["sh", "-eu", "-c", "a"], true),
            (&["bash", "-euo", "pipefail", "-c", "a"], true),
            (&["bash", "-ceuo", "pipefail", "a"], true),
            (&["bash", "-o", "xtrace", "+e", "-c", "a"], true),
            (&["bash", "-kc", "a"], false),
            (&["bash", "-o", "keyword", "-c", "a"], false),
            (&["bash", "-O", "extglob", "-c", "a"], false),
            (&["bash", "--rcfile", "f", "-c", "a"], false),
            (&["zsh", "--command", "a"], false),
            (&["bash", "-ca b"], false),
        ] {
            let command = read(words, None).unwrap();
            let ShellUse::Payload(payload) = command.shell() else {
                panic!("{words:?}");
            };
            assert_eq!(payload.has_plain_start, expected, "{words:?}");
        }
    }
}
