//! Safe bins: filters that may run without an entry as long as they read nothing but their
//! standard input (exec and approvals §8.5, divergence D8).
//!
//! A program counts as one if its name is listed, it lies in a trusted folder, and its arguments
//! fit its profile: known options, few positional arguments, and no word that could name a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::allowlist::Invocation;

/// The bins that are safe where openclaw.json lists none.
pub const DEFAULT_BINS: [&str; 6] = ["cut", "uniq", "head", "tail", "tr", "wc"];

/// The folders whose bins are trusted whatever openclaw.json says.
pub const DEFAULT_TRUSTED_DIRS: [&str; 2] = ["/bin", "/usr/bin"];

/// Programs whose language reads files or starts commands, so that no profile makes them safe.
const NEVER_SAFE: [&str; 7] = ["awk", "gawk", "gsed", "jq", "mawk", "nawk", "sed"];

/// `tools.exec.safeBins` and its neighbours, of the whole configuration or of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SafeBinSettings {
    /// `safeBins`: replaces the list of the wider scope, or [`DEFAULT_BINS`].
    pub bins: Option<Vec<String>>,
    /// `safeBinProfiles`, added to those of the wider scope and to the built-in ones.
    pub profiles: BTreeMap<String, ProfileSettings>,
    /// `safeBinTrustedDirs`, added to [`DEFAULT_TRUSTED_DIRS`]. Only absolute paths count: what a
    /// relative one means would depend on where the node was started.
    pub trusted_dirs: Vec<String>,
}

/// One member of `safeBinProfiles`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileSettings {
    /// `minPositional`: none if absent.
    pub min_positional: Option<usize>,
    /// `maxPositional`: no limit if absent.
    pub max_positional: Option<usize>,
    /// `allowedValueFlags`: options that take a value, with their dashes.
    pub allowed_value_flags: Vec<String>,
    /// `deniedFlags`: options that make the program unsafe, with their dashes.
    pub denied_flags: Vec<String>,
}

/// The safe bins that apply to one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeBins {
    bins: BTreeSet<String>,
    profiles: BTreeMap<String, Profile>,
    trusted_dirs: BTreeSet<PathBuf>,
}

impl Default for SafeBins {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl SafeBins {
    /// Puts scopes together, the widest first.
    #[must_use]
    pub fn new(scopes: &[&SafeBinSettings]) -> Self {
        let listed = scopes.iter().rev().find_map(|scope| scope.bins.as_deref());
        let bins = match listed {
            Some(bins) => bins
                .iter()
                .map(|bin| normal_name(bin))
                .filter(|bin| !bin.is_empty())
                .collect(),
            None => DEFAULT_BINS.iter().map(|bin| (*bin).to_owned()).collect(),
        };
        let mut profiles: BTreeMap<String, Profile> = BUILT_IN
            .iter()
            .map(|built_in| (built_in.name.to_owned(), built_in.profile()))
            .collect();
        for (name, settings) in scopes.iter().flat_map(|scope| &scope.profiles) {
            profiles.insert(normal_name(name), Profile::of(settings));
        }
        let extra = scopes.iter().flat_map(|scope| &scope.trusted_dirs);
        let trusted_dirs = DEFAULT_TRUSTED_DIRS
            .iter()
            .map(|dir| (*dir).to_owned())
            .chain(extra.map(|dir| dir.trim().to_owned()))
            .filter(|dir| dir.starts_with('/'))
            .map(|dir| PathBuf::from(crate::lexical::normalise(&dir)))
            .collect();
        Self {
            bins,
            profiles,
            trusted_dirs,
        }
    }

    /// Whether this is a safe bin that is used safely.
    #[must_use]
    pub fn accept(&self, invocation: &Invocation) -> bool {
        let Some((name, profile)) = self.listed(invocation) else {
            return false;
        };
        let arguments = invocation.argv.get(1..).unwrap_or_default();
        !NEVER_SAFE.contains(&name) && profile.accepts(arguments)
    }

    /// Whether this is a safe bin, however it is used.
    #[must_use]
    pub fn contain(&self, invocation: &Invocation) -> bool {
        self.listed(invocation)
            .is_some_and(|(name, _)| !NEVER_SAFE.contains(&name))
    }

    /// The name and the profile of a listed program in a trusted folder.
    fn listed<'a>(&'a self, invocation: &'a Invocation) -> Option<(&'a str, &'a Profile)> {
        let resolution = &invocation.resolution;
        let found = resolution.resolved_path.as_deref()?;
        let name = found.file_name()?.to_str()?;
        // Where a trusted folder links elsewhere, as with alternatives, the link is what is trusted.
        let is_trusted = self.is_trusted(resolution.trusted_path()?) || self.is_trusted(found);
        if !self.bins.contains(name) || !is_trusted {
            return None;
        }
        Some((name, self.profiles.get(name)?))
    }

    fn is_trusted(&self, program: &Path) -> bool {
        program
            .parent()
            .is_some_and(|folder| self.trusted_dirs.contains(folder))
    }
}

/// How the configuration may spell a name; names on the disk are compared exactly, because
/// `HEAD` is another program than `head`.
fn normal_name(name: &str) -> String {
    name.trim().to_lowercase()
}

/// What arguments a safe bin may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Profile {
    min_positional: usize,
    max_positional: Option<usize>,
    /// Options that take the next word, or what is attached to them, as their value.
    value_flags: BTreeSet<String>,
    /// Options that take a value only after `=`.
    optional_value_flags: BTreeSet<String>,
    boolean_flags: BTreeSet<String>,
    denied_flags: BTreeSet<String>,
    /// `-5` is a line count.
    digits: bool,
}

/// The profile of a well-known filter, its options separated by spaces.
struct BuiltIn {
    name: &'static str,
    positional: (usize, usize),
    values: &'static str,
    /// `uniq --group x` reads the file x, so only `--group=x` is a value.
    optional_values: &'static str,
    booleans: &'static str,
    denied: &'static str,
    digits: bool,
}

const PLAIN: BuiltIn = BuiltIn {
    name: "",
    positional: (0, 0),
    values: "",
    optional_values: "",
    booleans: "",
    denied: "",
    digits: false,
};

const BUILT_IN: [BuiltIn; 9] = [
    BuiltIn {
        name: "cut",
        values: "--bytes --characters --fields --delimiter --output-delimiter -b -c -f -d",
        booleans: "--complement --only-delimited --zero-terminated -n -s -z",
        ..PLAIN
    },
    BuiltIn {
        name: "uniq",
        values: "--skip-fields --skip-chars --check-chars -f -s -w",
        optional_values: "--group",
        booleans: "--count --repeated --unique --ignore-case --zero-terminated -c -d -u -i -z",
        ..PLAIN
    },
    BuiltIn {
        name: "head",
        values: "--lines --bytes -n -c",
        booleans: "--quiet --silent --verbose --zero-terminated -q -v -z",
        digits: true,
        ..PLAIN
    },
    BuiltIn {
        name: "tail",
        values: "--lines --bytes --sleep-interval --max-unchanged-stats --pid -n -c",
        booleans: "--quiet --silent --verbose --zero-terminated -q -v -z",
        denied: "--follow --retry -F -f",
        digits: true,
        ..PLAIN
    },
    BuiltIn {
        name: "tr",
        positional: (1, 2),
        booleans: "--complement --delete --squeeze-repeats --truncate-set1 -C -c -d -s -t",
        ..PLAIN
    },
    BuiltIn {
        name: "wc",
        booleans: "--bytes --chars --lines --max-line-length --words -L -c -l -m -w",
        denied: "--files0-from",
        ..PLAIN
    },
    BuiltIn {
        name: "grep",
        values: "--regexp --max-count --after-context --before-context --context --devices \
                 --binary-files --exclude --include --label -e -m -A -B -C -D",
        denied: "--file --exclude-from --dereference-recursive --directories --recursive -f -d -r -R",
        ..PLAIN
    },
    BuiltIn {
        name: "sort",
        values: "--key --field-separator --buffer-size --parallel --batch-size -k -t -S",
        denied: "--compress-program --files0-from --output --random-source --temporary-directory -T -o",
        ..PLAIN
    },
    BuiltIn {
        name: "jq",
        positional: (0, 1),
        values: "--arg --argjson --argstr",
        denied: "--argfile --rawfile --slurpfile --from-file --library-path -L -f",
        ..PLAIN
    },
];

impl BuiltIn {
    fn profile(&self) -> Profile {
        let flags = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Profile {
            min_positional: self.positional.0,
            max_positional: Some(self.positional.1),
            value_flags: flags(self.values),
            optional_value_flags: flags(self.optional_values),
            boolean_flags: flags(self.booleans),
            denied_flags: flags(self.denied),
            digits: self.digits,
        }
    }
}

impl Profile {
    fn of(settings: &ProfileSettings) -> Self {
        let flags = |flags: &[String]| {
            flags
                .iter()
                .map(|flag| flag.trim().to_owned())
                .filter(|flag| !flag.is_empty())
                .collect()
        };
        let min_positional = settings.min_positional.unwrap_or_default();
        Self {
            min_positional,
            max_positional: settings.max_positional.map(|max| max.max(min_positional)),
            value_flags: flags(&settings.allowed_value_flags),
            denied_flags: flags(&settings.denied_flags),
            ..Self::default()
        }
    }

    fn accepts(&self, arguments: &[String]) -> bool {
        let mut positional = 0;
        let mut options = true;
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "" | "-" => {}
                "--" if options => options = false,
                word if options && word.starts_with('-') => {
                    let value_follows = match self.option(word) {
                        Some(value_follows) => value_follows,
                        None => return false,
                    };
                    if value_follows && !rest.next().is_some_and(|value| is_value(value)) {
                        return false;
                    }
                }
                word => {
                    if !is_literal(word) {
                        return false;
                    }
                    positional += 1;
                }
            }
        }
        positional >= self.min_positional && self.max_positional.is_none_or(|max| positional <= max)
    }

    /// Whether the next word is this option's value; `None` if the option is not acceptable.
    fn option(&self, word: &str) -> Option<bool> {
        if word.starts_with("--") {
            return self.long_option(word);
        }
        let letters = word.strip_prefix('-')?;
        if self.digits && letters.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(false);
        }
        for (position, letter) in letters.char_indices() {
            let flag = format!("-{letter}");
            if self.denied_flags.contains(&flag) {
                return None;
            }
            if self.value_flags.contains(&flag) {
                let value = letters.get(position + letter.len_utf8()..)?;
                return (value.is_empty() || is_literal(value)).then_some(value.is_empty());
            }
            if !self.boolean_flags.contains(&flag) {
                return None;
            }
        }
        Some(false)
    }

    fn long_option(&self, word: &str) -> Option<bool> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let name = self.long_name(name)?;
        if self.denied_flags.contains(name) {
            return None;
        }
        let takes_value = self.value_flags.contains(name);
        match value {
            Some(value) => {
                let may_have_value = takes_value || self.optional_value_flags.contains(name);
                (may_have_value && is_literal(value)).then_some(false)
            }
            None => Some(takes_value),
        }
    }

    /// The option that a name or its beginning stands for, if it stands for one only.
    fn long_name(&self, given: &str) -> Option<&str> {
        if given.len() <= 2 {
            return None;
        }
        let known = [
            &self.value_flags,
            &self.optional_value_flags,
            &self.boolean_flags,
            &self.denied_flags,
        ];
        let mut found = None;
        for flag in known.into_iter().flatten().map(String::as_str) {
            if flag == given {
                return Some(flag);
            }
            if flag.starts_with("--") && flag.starts_with(given) {
                if found.is_some_and(|found| found != flag) {
                    return None;
                }
                found = Some(flag);
            }
        }
        found
    }
}

/// A word of its own as an option's value.
fn is_value(word: &str) -> bool {
    !word.is_empty() && is_literal(word)
}

/// Whether a word can name no file, however a shell or the program reads it.
fn is_literal(word: &str) -> bool {
    let names_a_path = || {
        let trimmed = word.trim();
        ["/", "./", "../", "~"]
            .iter()
            .any(|start| trimmed.starts_with(start))
            || matches!(trimmed.as_bytes(), [drive, b':', b'/' | b'\\', ..] if drive.is_ascii_alphabetic())
    };
    word == "-" || !(word.contains(['*', '?', '[', ']']) || expands(word) || names_a_path())
}

/// Whether a shell would put something else in place of a part of the word.
fn expands(word: &str) -> bool {
    word.split('$').skip(1).any(|behind| {
        behind.starts_with(|next: char| next.is_ascii_alphabetic() || "_{([".contains(next))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{ProfileSettings, SafeBinSettings, SafeBins};
    use crate::allowlist::{Invocation, Resolution};

    fn invocation(line: &str, found: &str, real: &str) -> Invocation {
        let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Invocation {
            resolution: Resolution {
                raw_token: argv[0].clone(),
                resolved_path: Some(PathBuf::from(found)),
                real_path: Some(PathBuf::from(real)),
            },
            argv,
        }
    }

    fn in_usr_bin(line: &str) -> Invocation {
        let path = format!("/usr/bin/{}", line.split(' ').next().unwrap());
        invocation(line, &path, &path)
    }

    #[test]
    fn a_filter_may_read_its_standard_input_and_nothing_else() {
        let bins = SafeBins::default();
        for (line, expected) in [
            ("head", true),
            ("head -n 1", true),
            ("head -n1", true),
            ("head -5", true),
            ("head -q -5", true),
            ("head -5k", false),
            ("head --lines=1", true),
            ("head --lines 1", true),
            ("head --li=1", true),
            ("head --=1", false),
            ("head --lines", false),
            ("head -n", false),
            ("head -q", true),
            ("head -qn1", true),
            ("head -qx", false),
            ("head -", true),
            ("head - -", true),
            ("head  -n 1", true),
            ("head -- -", true),
            ("head -- -n", false),
            ("head -x", false),
            ("head --quiet=1", false),
            ("head /etc/hostname", false),
            ("head hostname", false),
            ("head -n /etc/hostname", false),
            ("head -n $N", false),
            ("tail -f", false),
            ("tail -qF", false),
            ("tail --follow=name", false),
            ("tail --fol", false),
            ("tail -20", true),
            ("tail --s", false),
            ("wc -l", true),
            ("wc -lw", true),
            ("wc --files0-from=-", false),
            ("wc --files", false),
            ("cut -d : -f1", true),
            ("cut -d: -f 1-3", true),
            ("cut -d * -f1", false),
            ("tr a b", true),
            ("tr -d a", true),
            ("tr", false),
            ("tr a b c", false),
            ("tr a-z A-Z", true),
            ("tr [a] b", false),
            ("tr a $HOME", false),
            ("tr a $1", true),
            ("tr a ${x}", false),
            ("tr a $(id)", false),
            ("uniq -c", true),
            ("uniq infile", false),
            ("uniq -f1", true),
            ("uniq --group=append", true),
            ("uniq --group append", false),
            ("sort", false),
            ("grep -e x", false),
            ("HEAD", false),
        ] {
            assert_eq!(bins.accept(&in_usr_bin(line)), expected, "{line}");
        }
    }

    #[test]
    fn the_configuration_lists_profiles_and_trusts() {
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let global = SafeBinSettings {
            bins: Some(strings(&[
                "grep", " Sort ", "jq", "sed", "mytool", "nope", "other",
            ])),
            profiles: [
                (
                    "mytool".to_owned(),
                    ProfileSettings {
                        max_positional: Some(1),
                        allowed_value_flags: strings(&["--x", " -y "]),
                        denied_flags: strings(&["-z"]),
                        ..ProfileSettings::default()
                    },
                ),
                ("sed".to_owned(), ProfileSettings::default()),
            ]
            .into(),
            trusted_dirs: strings(&["/opt/tools/", "relative"]),
        };
        let bins = SafeBins::new(&[&global]);
        for (line, expected) in [
            ("sort -k 1", true),
            ("sort -r", false),
            ("sort -o x", false),
            ("sort --outp=x", false),
            ("grep -e x", true),
            ("grep x", false),
            ("grep -r -e x", false),
            ("grep -e x file", false),
            ("jq .", false),
            ("sed p", false),
            ("head", false),
        ] {
            assert_eq!(bins.accept(&in_usr_bin(line)), expected, "{line}");
        }
        let tool = |line| invocation(line, "/opt/tools/mytool", "/opt/tools/mytool");
        for (line, expected) in [
            ("mytool", true),
            ("mytool a", true),
            ("mytool a b", false),
            ("mytool --x 1 a", true),
            ("mytool -y1", true),
            ("mytool -z", false),
            ("mytool -q", false),
        ] {
            assert_eq!(bins.accept(&tool(line)), expected, "{line}");
        }
        let narrower = SafeBinSettings {
            bins: Some(strings(&["head"])),
            ..SafeBinSettings::default()
        };
        let own = SafeBins::new(&[&global, &narrower]);
        assert!(own.accept(&in_usr_bin("head -n 1")));
        assert!(!own.accept(&in_usr_bin("sort -k 1")));
    }

    #[test]
    fn a_bin_elsewhere_is_not_trusted() {
        let bins = SafeBins::default();
        for (found, real, expected) in [
            ("/bin/head", "/usr/bin/head", true),
            ("/usr/bin/head", "/usr/lib/coreutils/head", true),
            ("/home/op/bin/head", "/usr/bin/head", true),
            ("/home/op/bin/head", "/home/op/bin/head", false),
            ("/usr/bin/../../tmp/head", "/tmp/head", false),
            ("/usr/bin/sub/head", "/usr/bin/sub/head", false),
        ] {
            assert_eq!(
                bins.accept(&invocation("head", found, real)),
                expected,
                "{found}"
            );
        }
        let mut missing = invocation("head", "/usr/bin/head", "/usr/bin/head");
        missing.resolution.resolved_path = None;
        assert!(!bins.accept(&missing));
    }
}
