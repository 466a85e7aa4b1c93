//! Programs that run another program: how far an argv can be seen through, and to what.
//!
//! Two questions are asked of the same table. *Text and environment* follow every wrapper whose
//! command can be found, even one that changes what the command does (`env FOO=1 sh -c …`), because
//! what a shell is given and which variables are assigned must be known either way. *Policy*
//! ([`TrustPlan`]) follows only wrappers that leave the command's meaning alone, and says which one
//! it could not see through (exec and approvals §3.3).

pub mod dispatch;
pub mod env;
pub mod runner;
pub mod shell;

use std::borrow::Cow;

use self::dispatch::Dispatch;

/// How many wrappers may stand around a command before it counts as hidden (exec and approvals §3.3).
pub const MAX_WRAPPERS: usize = 4;

const WINDOWS_SUFFIXES: [&str; 4] = [".exe", ".cmd", ".bat", ".com"];
const CARRIERS: [&str; 3] = ["command", "builtin", "exec"];
const MULTIPLEXERS: [&str; 2] = ["busybox", "toybox"];

/// The name under which an executable word is looked up in every table: its lower-cased base name,
/// by POSIX or Windows rules whichever is shorter, without one Windows suffix (exec and approvals §3.2).
#[must_use]
pub fn executable_name(token: &str) -> String {
    // Nearly every word is such a name already, and each is asked for several times.
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if token.bytes().all(is_plain) {
        return token.to_owned();
    }
    let posix = base_name(token, &['/']);
    let windows = base_name(without_drive(token), &['/', '\\']);
    let shorter = if windows.len() < posix.len() {
        windows
    } else {
        posix
    };
    let lower = crate::command::trim(shorter).to_lowercase();
    WINDOWS_SUFFIXES
        .iter()
        .find_map(|suffix| lower.strip_suffix(suffix))
        .map_or_else(|| lower.clone(), str::to_owned)
}

fn base_name<'a>(path: &'a str, separators: &[char]) -> &'a str {
    let path = path.trim_end_matches(separators);
    path.rsplit(separators).next().unwrap_or(path)
}

fn without_drive(token: &str) -> &str {
    match token.as_bytes() {
        [letter, b':', ..] if letter.is_ascii_alphabetic() => token.get(2..).unwrap_or(token),
        _ => token,
    }
}

/// Is this executable word one of the shell multiplexers, busybox or toybox?
#[must_use]
pub fn is_multiplexer(token: &str) -> bool {
    MULTIPLEXERS.contains(&executable_name(token).as_str())
}

/// An argv as seen from inside wrappers, which still knows where its words stood in the full argv.
///
/// Words that come out of an `env -S` string stand nowhere in the full argv; all others are a
/// suffix of it.
#[derive(Clone, Debug)]
pub struct InnerArgv<'a> {
    words: Cow<'a, [String]>,
    /// How many words at the end of `words` are the end of the full argv.
    trailing: usize,
    /// Length of the full argv.
    total: usize,
}

impl<'a> InnerArgv<'a> {
    /// The full argv itself.
    #[must_use]
    pub fn whole(argv: &'a [String]) -> Self {
        Self {
            words: Cow::Borrowed(argv),
            trailing: argv.len(),
            total: argv.len(),
        }
    }

    /// The words, the executable first.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The executable word, or nothing for an empty argv.
    #[must_use]
    pub fn executable(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Where word `position` of this argv stands in the full argv; `None` for a word that only
    /// exists inside an `env -S` string.
    #[must_use]
    pub fn index_of(&self, position: usize) -> Option<usize> {
        let from_end = self.words.len().checked_sub(position)?;
        (from_end > 0 && from_end <= self.trailing).then(|| self.total - from_end)
    }

    fn enter(&self, inner: &Inner) -> Self {
        match inner {
            Inner::At(start) => {
                let words = match &self.words {
                    Cow::Borrowed(words) => Cow::Borrowed(words.get(*start..).unwrap_or_default()),
                    Cow::Owned(words) => {
                        Cow::Owned(words.get(*start..).unwrap_or_default().to_vec())
                    }
                };
                Self {
                    trailing: self.trailing.min(words.len()),
                    words,
                    total: self.total,
                }
            }
            Inner::Rewritten { words, trailing } => Self {
                words: Cow::Owned(words.clone()),
                trailing: self.trailing.min(*trailing),
                total: self.total,
            },
        }
    }

    /// The argv from one of its own words on.
    #[must_use]
    pub fn suffix(&self, position: usize) -> Self {
        self.enter(&Inner::At(position))
    }

    /// The argv behind one dispatch wrapper, whether or not the wrapper changes what it does.
    #[must_use]
    pub fn behind_dispatch(&self) -> Option<Self> {
        match dispatch::unwrap(self.words()) {
            Dispatch::Around { inner, .. } => Some(self.enter(&inner)),
            Dispatch::Absent | Dispatch::Opaque { .. } => None,
        }
    }

    /// The command behind `command`, `builtin` or `exec`.
    #[must_use]
    pub fn behind_carrier(&self) -> Option<Self> {
        match carrier(self.words()) {
            Seen::Around(start) => Some(self.enter(&Inner::At(start))),
            Seen::Absent | Seen::Opaque => None,
        }
    }

    /// The applet and its arguments behind busybox or toybox, where the applet is a known shell.
    #[must_use]
    pub fn behind_multiplexer(&self) -> Option<Self> {
        match multiplexer(self.words()) {
            Seen::Around(start) => Some(self.enter(&Inner::At(start))),
            Seen::Absent | Seen::Opaque => None,
        }
    }

    /// The program that a package runner such as `npx` would start.
    #[must_use]
    pub fn behind_runner(&self) -> Option<Self> {
        match runner::unwrap(self.words()) {
            runner::Runner::Around { inner, .. } => Some(self.enter(&inner)),
            runner::Runner::Absent | runner::Runner::Other | runner::Runner::Opaque => None,
        }
    }
}

/// Where the words behind a wrapper come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Inner {
    /// They are the wrapper's own words from this position on.
    At(usize),
    /// They were put together anew; only the last `trailing` of them are the wrapper's own last words.
    Rewritten {
        /// The words, the executable first.
        words: Vec<String>,
        /// How many words at the end are the end of the wrapper's argv.
        trailing: usize,
    },
}

/// What kind of program stands around another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WrapperKind {
    /// A program that starts another one, such as `nice` or `timeout`.
    Dispatch,
    /// A shell builtin that carries a command: `command`, `builtin` or `exec`.
    Carrier,
    /// busybox or toybox in front of one of its shells.
    Multiplexer,
}

/// One wrapper that policy sees through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wrapper {
    /// Its normalised name.
    pub name: String,
    /// What kind of wrapper it is.
    pub kind: WrapperKind,
    /// Where its executable word stands in the full argv.
    pub index: usize,
}

/// What policy looks at in an argv (exec and approvals §3.3, §4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustPlan {
    /// The transparent wrappers, the outermost first.
    pub wrappers: Vec<Wrapper>,
    /// Where the executable stands that policy judges: behind transparent wrappers, but a
    /// multiplexer stays the target.
    pub policy_index: usize,
    /// Where the innermost executable stands.
    pub execution_index: usize,
    /// The wrapper that cannot be seen through, if any. Such a command can never be satisfied by
    /// an allowlist, not even by `*`.
    pub blocked: Option<String>,
}

impl TrustPlan {
    /// Looks through the wrappers of `argv`.
    #[must_use]
    pub fn of(argv: &[String]) -> Self {
        let mut plan = Self {
            wrappers: Vec::new(),
            policy_index: 0,
            execution_index: 0,
            blocked: None,
        };
        loop {
            let start = plan.execution_index;
            let words = argv.get(start..).unwrap_or_default();
            let (name, kind, offset) = match next_wrapper(words) {
                NextWrapper::None => return plan,
                NextWrapper::Blocked(name) => {
                    plan.blocked = Some(name);
                    return plan;
                }
                NextWrapper::Transparent { name, .. } if plan.wrappers.len() == MAX_WRAPPERS => {
                    plan.blocked = Some(name);
                    return plan;
                }
                NextWrapper::Transparent { name, kind, offset } => (name, kind, offset),
            };
            plan.wrappers.push(Wrapper {
                name,
                kind,
                index: start,
            });
            plan.execution_index = start + offset;
            if plan
                .wrappers
                .iter()
                .all(|wrapper| wrapper.kind != WrapperKind::Multiplexer)
            {
                plan.policy_index = plan.execution_index;
            }
        }
    }

    /// The innermost argv, a suffix of `argv`, which must be the one the plan was made of.
    #[must_use]
    pub fn execution_argv<'a>(&self, argv: &'a [String]) -> &'a [String] {
        argv.get(self.execution_index..).unwrap_or_default()
    }

    /// The argv that policy judges, a suffix of `argv`, which must be the one the plan was made of.
    #[must_use]
    pub fn policy_argv<'a>(&self, argv: &'a [String]) -> &'a [String] {
        argv.get(self.policy_index..).unwrap_or_default()
    }
}

enum NextWrapper {
    None,
    Blocked(String),
    Transparent {
        name: String,
        kind: WrapperKind,
        offset: usize,
    },
}

fn next_wrapper(words: &[String]) -> NextWrapper {
    let Some(token) = words.first() else {
        return NextWrapper::None;
    };
    match dispatch::unwrap(words) {
        Dispatch::Around {
            name,
            inner: Inner::At(offset),
            transparent: true,
        } => {
            return NextWrapper::Transparent {
                name,
                kind: WrapperKind::Dispatch,
                offset,
            };
        }
        Dispatch::Around { name, .. } | Dispatch::Opaque { name } => {
            return NextWrapper::Blocked(name);
        }
        Dispatch::Absent => {}
    }
    match carrier(words) {
        Seen::Around(offset) => {
            return NextWrapper::Transparent {
                name: token.clone(),
                kind: WrapperKind::Carrier,
                offset,
            };
        }
        Seen::Opaque => return NextWrapper::Blocked(token.clone()),
        Seen::Absent => {}
    }
    match multiplexer(words) {
        Seen::Around(offset) => {
            let name = executable_name(token);
            NextWrapper::Transparent {
                name,
                kind: WrapperKind::Multiplexer,
                offset,
            }
        }
        Seen::Opaque => NextWrapper::Blocked(executable_name(token)),
        Seen::Absent => NextWrapper::None,
    }
}

enum Seen {
    Absent,
    Opaque,
    Around(usize),
}

/// `command`, `builtin` and `exec`, which only count when the word is exactly that.
///
/// `command -p` looks the command up elsewhere and `-v` only asks about it, so no option of
/// `command` or `builtin` is let through.
fn carrier(words: &[String]) -> Seen {
    let Some((token, rest)) = words.split_first() else {
        return Seen::Absent;
    };
    if !CARRIERS.contains(&token.as_str()) {
        return Seen::Absent;
    }
    let mut position = 1;
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            position += 1;
            break;
        }
        if !word.starts_with('-') {
            break;
        }
        let Some(takes_next) = (if token == "exec" {
            exec_option(word)
        } else {
            None
        }) else {
            return Seen::Opaque;
        };
        position += 1;
        if takes_next {
            rest.next();
            position += 1;
        }
    }
    if position < words.len() {
        Seen::Around(position)
    } else {
        Seen::Opaque
    }
}

/// Whether an option word of `exec` takes the next word as its value; `None` if it is unknown.
fn exec_option(word: &str) -> Option<bool> {
    let letters = word
        .strip_prefix('-')
        .filter(|letters| !letters.is_empty())?;
    for (position, letter) in letters.char_indices() {
        match letter {
            'c' | 'l' => {}
            'a' => return Some(position + 1 == letters.len()),
            _ => return None,
        }
    }
    Some(false)
}

fn multiplexer(words: &[String]) -> Seen {
    if !words.first().is_some_and(|token| is_multiplexer(token)) {
        return Seen::Absent;
    }
    let applet = if words.get(1).is_some_and(|word| word == "--") {
        2
    } else {
        1
    };
    match words.get(applet) {
        Some(word) if shell::Shell::named(word).is_some() => Seen::Around(applet),
        _ => Seen::Opaque,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_executable_is_known_by_its_shorter_base_name() {
        for (token, name) in [
            ("echo", "echo"),
            ("/usr/bin/Echo", "echo"),
            ("/usr/bin/echo/", "echo"),
            (r"C:\Tools\Sudo.EXE", "sudo"),
            ("C:sh", "sh"),
            (r"a\b", "b"),
            ("run.cmd.exe", "run.cmd"),
            (".exe", ""),
            ("/", ""),
            ("", ""),
            (" sudo ", "sudo"),
        ] {
            assert_eq!(executable_name(token), name, "{token:?}");
        }
    }

    #[test]
    fn policy_looks_through_transparent_wrappers_only() {
        #[rustfmt::skip]
        let cases = [
            // line, what policy judges, what runs, what hides it
            ("echo a", "echo a", "echo a", None),
            ("env nice -n5 timeout 5 echo a", "echo a", "echo a", None),
            ("command -- builtin exec -a x echo a", "echo a", "echo a", None),
            ("nice exec -cl echo a", "echo a", "echo a", None),
            ("nice busybox -- sh x", "busybox -- sh x", "sh x", None),
            ("nice nice nice nice echo", "echo", "echo", None),
            ("nice nice nice nice nice echo", "nice echo", "nice echo", Some("nice")),
            ("nice nice nice nice exec echo", "exec echo", "exec echo", Some("exec")),
            ("nice nice nice nice busybox sh", "busybox sh", "busybox sh", Some("busybox")),
            ("sudo echo", "sudo echo", "sudo echo", Some("sudo")),
            ("nice sudo echo", "sudo echo", "sudo echo", Some("sudo")),
            ("env A=1 echo", "env A=1 echo", "env A=1 echo", Some("env")),
            ("env -S echo", "env -S echo", "env -S echo", Some("env")),
            ("time -o f echo", "time -o f echo", "time -o f echo", Some("time")),
            ("command -p echo", "command -p echo", "command -p echo", Some("command")),
            ("command -v echo", "command -v echo", "command -v echo", Some("command")),
            ("builtin", "builtin", "builtin", Some("builtin")),
            ("exec -a x", "exec -a x", "exec -a x", Some("exec")),
            ("exec -x echo", "exec -x echo", "exec -x echo", Some("exec")),
            ("exec - echo", "exec - echo", "exec - echo", Some("exec")),
            ("/bin/exec echo", "/bin/exec echo", "/bin/exec echo", None),
            ("busybox awk x", "busybox awk x", "busybox awk x", Some("busybox")),
            ("toybox", "toybox", "toybox", Some("toybox")),
        ];
        for (line, policy, execution, blocked) in cases {
            let argv = words(line);
            let plan = TrustPlan::of(&argv);
            assert_eq!(plan.policy_argv(&argv).join(" "), policy, "{line}");
            assert_eq!(plan.execution_argv(&argv).join(" "), execution, "{line}");
            assert_eq!(plan.blocked.as_deref(), blocked, "{line}");
        }
        assert_eq!(TrustPlan::of(&[]).blocked, None);
    }

    #[test]
    fn wrappers_are_told_with_their_place() {
        let plan = TrustPlan::of(&words("/bin/nice -n 5 exec busybox sh x"));
        let wrapper = |name: &str, kind, index| Wrapper {
            name: name.to_owned(),
            kind,
            index,
        };
        assert_eq!(
            plan.wrappers,
            [
                wrapper("nice", WrapperKind::Dispatch, 0),
                wrapper("exec", WrapperKind::Carrier, 3),
                wrapper("busybox", WrapperKind::Multiplexer, 4),
            ]
        );
    }

    #[test]
    fn inner_words_know_their_place_in_the_full_argv() {
        let argv: Vec<String> = ["nice", "env", "-S", "sh -x", "a", "b"]
            .map(str::to_owned)
            .to_vec();
        let whole = InnerArgv::whole(&argv);
        assert_eq!(whole.index_of(5), Some(5));
        assert_eq!(whole.index_of(6), None);
        let split = whole
            .behind_dispatch()
            .and_then(|inner| inner.behind_dispatch())
            .unwrap();
        assert_eq!(split.words(), ["sh", "-x", "a", "b"]);
        let places: Vec<_> = (0..4).map(|position| split.index_of(position)).collect();
        assert_eq!(places, [None, None, Some(4), Some(5)]);
        assert_eq!(split.suffix(3).index_of(0), Some(5));
    }
}
