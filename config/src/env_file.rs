//! Files of environment variables: `<stateDir>/.env`, and what a service definition keeps for
//! `--env-file` (config §4, service files §2).

use std::collections::BTreeMap;
use std::io;
use std::iter::Peekable;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::Chars;

use nix::fcntl::OFlag;

use crate::text_file::{NoText, TextFile};
use crate::{Environment, VariableOrigin};

/// The largest file that is read, in bytes (config §4).
const FILE_LIMIT_BYTES: u64 = 1024 * 1024;

/// Why a file of variables cannot be used. A value is never shown.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// It cannot be read.
    #[error("cannot read {file}: {source}; let this user read it", file = .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no regular file, too large or not UTF-8.
    #[error("{file} is {detail}", file = .file.display())]
    NotText {
        /// The file.
        file: PathBuf,
        /// What it is instead.
        detail: &'static str,
    },
    /// Others than its owner may read or change it.
    #[error("{file} holds secrets, but others may read or change it; run chmod 600 on it", file = .file.display())]
    Open {
        /// The file.
        file: PathBuf,
    },
    /// A line sets no variable.
    #[error("{file}:{line}: expected KEY=VALUE or export KEY='VALUE'", file = .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
}

/// A file of variables that a service definition names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariablesFile {
    /// The file of `--env-file`, which must be there and private. It counts as the environment that
    /// the process was started with, and wins over it.
    Given(PathBuf),
    /// The `EnvironmentFile=` of a systemd unit, which need not be there. Its variables lie beneath
    /// those that the process has from elsewhere.
    OfUnit(PathBuf),
}

impl VariablesFile {
    /// The file from which systemd took variables of this process. They are set aside, so that the
    /// file is what says them from now on, also once it is changed; what the process has with
    /// another value is from a drop-in, and stays.
    ///
    /// # Errors
    /// [`EnvFileError`]; the variables then stay.
    pub fn of_unit(file: PathBuf, process: &mut Environment) -> Result<Self, EnvFileError> {
        process.set_aside(&read_unit_file(&file)?);
        Ok(Self::OfUnit(file))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Given(path) | Self::OfUnit(path) => path,
        }
    }

    pub(crate) fn put_into(&self, environment: &mut Environment) -> Result<(), EnvFileError> {
        match self {
            Self::Given(file) => {
                let origin = std::path::absolute(file).unwrap_or_else(|_| file.clone());
                for (name, value) in read_strict(&origin)? {
                    environment.put(&name, value, VariableOrigin::EnvFile(origin.clone()));
                }
            }
            Self::OfUnit(file) => {
                for (name, value) in read_unit_file(file)? {
                    environment.put_beneath(&name, value, VariableOrigin::EnvFile(file.clone()));
                }
            }
        }
        Ok(())
    }
}

/// Reads what systemd has read already.
fn read_unit_file(file: &Path) -> Result<BTreeMap<String, String>, EnvFileError> {
    Ok(read(file)?.map_or_else(BTreeMap::new, |(text, _)| unit_file_variables(&text)))
}

/// The variables of an `EnvironmentFile=` as systemd takes them (systemd.exec(5)): of equal names
/// the last one counts; quoted pieces are joined; a backslash makes the next character an ordinary
/// one, and the end of a line disappear; what has no valid name is passed over.
#[must_use]
pub fn unit_file_variables(text: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters
            .next_if(|next| next.is_ascii_whitespace())
            .is_some()
        {}
        match characters.peek() {
            None => return variables,
            Some('#' | ';') => skip_comment(&mut characters),
            Some(_) => {
                if let Some((name, value)) = unit_variable(&mut characters)
                    && is_name(&name)
                {
                    variables.insert(name, value);
                }
            }
        }
    }
}

/// A comment, which a backslash at the end of its line goes on with.
fn skip_comment(characters: &mut Peekable<Chars<'_>>) {
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '\n' | '\r' => return,
            _ => {}
        }
    }
}

/// A name and its value; `None` for a line without `=`.
fn unit_variable(characters: &mut Peekable<Chars<'_>>) -> Option<(String, String)> {
    let mut name = String::new();
    loop {
        match characters.next()? {
            '=' => break,
            '\n' | '\r' => return None,
            character => name.push(character),
        }
    }
    let mut value = String::new();
    // White space outside of quotes counts only if something follows it in the same piece.
    let mut kept = 0;
    let mut is_at_start = true;
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\r' => break,
            '\'' if is_at_start => {
                value.extend(characters.by_ref().take_while(|next| *next != '\''));
                kept = value.len();
            }
            '"' if is_at_start => {
                double_quoted(characters, &mut value);
                kept = value.len();
            }
            '\\' => {
                is_at_start = false;
                value.extend(characters.next().filter(|next| *next != '\n'));
                kept = value.len();
            }
            blank if blank.is_ascii_whitespace() => {
                if !is_at_start {
                    value.push(blank);
                }
            }
            character => {
                is_at_start = false;
                value.push(character);
                kept = value.len();
            }
        }
    }
    value.truncate(kept);
    Some((name.trim_end().to_owned(), value))
}

/// The rest of a piece in double quotes: a backslash only means something before what a shell would
/// expand, and at the end of a line.
fn double_quoted(characters: &mut Peekable<Chars<'_>>, value: &mut String) {
    while let Some(character) = characters.next() {
        match character {
            '"' => return,
            '\\' => match characters.next() {
                Some('\n') | None => {}
                Some(escaped @ ('"' | '\\' | '`' | '$')) => value.push(escaped),
                Some(other) => value.extend(['\\', other]),
            },
            character => value.push(character),
        }
    }
}

/// Reads the file of `--env-file`, which must be there and private; every line must set a variable,
/// be blank or a comment.
pub(crate) fn read_strict(file: &Path) -> Result<Vec<(String, String)>, EnvFileError> {
    let missing = || EnvFileError::Unreadable {
        file: file.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    };
    let (text, mode) = read(file)?.ok_or_else(missing)?;
    if mode & 0o077 != 0 {
        return Err(EnvFileError::Open {
            file: file.to_owned(),
        });
    }
    let is_read = |(line, variable): (usize, Option<_>)| {
        variable.ok_or_else(|| EnvFileError::Line {
            file: file.to_owned(),
            line,
        })
    };
    env_file_lines(&text).map(is_read).collect()
}

/// The lines of an `--env-file` that are neither blank nor comments: their numbers, from 1, and the
/// variable that each sets, if it sets one: `KEY=V`, `KEY="V"` with backslashes, or `export KEY='V'`
/// as a shell reads it.
pub fn env_file_lines(text: &str) -> impl Iterator<Item = (usize, Option<(String, String)>)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| (number, assignment(line)))
}

/// Reads `<stateDir>/.env` as upstream does: what is no assignment is passed over, and so is a file
/// that is not there.
pub(crate) fn read_dot_env(file: &Path) -> Result<Vec<(String, String)>, EnvFileError> {
    Ok(read(file)?.map_or_else(Vec::new, |(text, _)| dot_env(&text)))
}

/// Reads a credential that systemd provides (D20), if it does.
pub(crate) fn read_credential(file: &Path) -> Result<Option<String>, EnvFileError> {
    Ok(read(file)?.map(|(text, _)| text))
}

/// The text of a file, and its mode.
fn read(file: &Path) -> Result<Option<(String, u32)>, EnvFileError> {
    let not_text = |detail| EnvFileError::NotText {
        file: file.to_owned(),
        detail,
    };
    let refused = |reason| match reason {
        NoText::Unreadable(source) => EnvFileError::Unreadable {
            file: file.to_owned(),
            source,
        },
        NoText::NotAFile => not_text("no regular file"),
        NoText::TooLarge => not_text("larger than 1 MiB"),
        NoText::NotUtf8 => not_text("not UTF-8"),
    };
    let Some(opened) = TextFile::open(file, OFlag::empty()).map_err(refused)? else {
        return Ok(None);
    };
    let mode = opened.metadata.mode();
    let text = opened.read(FILE_LIMIT_BYTES).map_err(refused)?;
    Ok(Some((text, mode)))
}

/// Whether a variable can have this name.
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn assignment(line: &str) -> Option<(String, String)> {
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        Some(_) | None => line,
    };
    let (name, value) = line.split_once('=')?;
    if !is_name(name) || value.contains('\0') {
        return None;
    }
    let value = match value.chars().next() {
        Some('\'' | '"') => unquote(value)?,
        Some(_) | None => value.to_owned(),
    };
    Some((name.to_owned(), value))
}

/// Joins the quoted and escaped pieces of one shell word; nothing may stand outside of them.
fn unquote(word: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => loop {
                match characters.next()? {
                    '\'' => break,
                    inside => value.push(inside),
                }
            },
            '"' => loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => value.push(characters.next()?),
                    inside => value.push(inside),
                }
            },
            '\\' => value.push(characters.next()?),
            _ => return None,
        }
    }
    Some(value)
}

/// The assignments of a `.env` file: `KEY=value`, `KEY: value`, with or without `export`, quotes
/// and a comment behind. A quoted value may go over several lines.
fn dot_env(text: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        match dot_env_name(line) {
            None => rest = after,
            Some((name, value_at)) => {
                let value = rest.get(value_at..).unwrap_or("");
                let (value, after) = dot_env_value(value);
                if is_name(name) {
                    variables.push((name.to_owned(), value));
                }
                rest = after;
            }
        }
    }
    variables
}

/// The name that a line sets, and where its value begins.
fn dot_env_name(line: &str) -> Option<(&str, usize)> {
    let trimmed = line.trim_start();
    let bare = match trimmed.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        Some(_) | None => trimmed,
    };
    let is_part =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-');
    let length = bare.find(|character| !is_part(character))?;
    let (name, rest) = bare.split_at_checked(length)?;
    let separated = rest.trim_start_matches([' ', '\t']);
    let value = match separated.strip_prefix('=') {
        Some(value) => value,
        None => rest
            .strip_prefix(':')
            .filter(|value| value.starts_with([' ', '\t']))?,
    };
    (!name.is_empty()).then_some((name, line.len() - value.len()))
}

/// The value at the start of the text, and what comes after its line.
fn dot_env_value(text: &str) -> (String, &str) {
    let blank = |character: char| matches!(character, ' ' | '\t');
    let unindented = text.trim_start_matches(blank);
    let quote = unindented
        .chars()
        .next()
        .filter(|character| matches!(character, '\'' | '"' | '`'));
    if let Some(quote) = quote
        && let Some((inside, after)) = quoted(unindented, quote)
    {
        let (end, after_line) = after.split_once('\n').unwrap_or((after, ""));
        let end = end.trim_matches(|character: char| blank(character) || character == '\r');
        if end.is_empty() || end.starts_with('#') {
            let value = match quote {
                '"' => inside.replace("\\n", "\n").replace("\\r", "\r"),
                _ => inside.to_owned(),
            };
            return (value, after_line);
        }
    }
    let (line, after_line) = text.split_once('\n').unwrap_or((text, ""));
    let value = line.split_once('#').map_or(line, |(value, _)| value);
    (value.trim().to_owned(), after_line)
}

/// What stands between the quotes at the start of the text, and what follows them.
fn quoted(text: &str, quote: char) -> Option<(&str, &str)> {
    let inside = text.strip_prefix(quote)?;
    let mut characters = inside.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            let (value, rest) = inside.split_at_checked(at)?;
            return Some((value, rest.strip_prefix(quote)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn an_environment_file_of_a_unit_is_read_as_systemd_reads_it() {
        let table: [(&str, &[(&str, &str)]); 12] = [
            ("A=1\nA=2\n", &[("A", "2")]),
            (" A = a b \t\nB=", &[("A", "a b"), ("B", "")]),
            ("# A=1\n; B=1\n#\\\nC=1\nD=1", &[("D", "1")]),
            ("export A=1\n1B=1\nno line\nC=1", &[("C", "1")]),
            ("A='a \\ \"b\"'\nB=1", &[("A", "a \\ \"b\""), ("B", "1")]),
            (r#"A="\"\\\$\`\x""#, &[("A", r#""\$`\x"#)]),
            ("A=\"a\\\nb\nc\"\nB=1", &[("A", "ab\nc"), ("B", "1")]),
            (r"A=a\b\\c\ ", &[("A", r"ab\c ")]),
            ("A=a \\\n  b\nB=1", &[("A", "a   b"), ("B", "1")]),
            ("A='a' \"b\" c", &[("A", "abc")]),
            ("A=it's \"so\"", &[("A", "it's \"so\"")]),
            ("A='never ends\nB=1", &[("A", "never ends\nB=1")]),
        ];
        for (text, expected) in table {
            let read = unit_file_variables(text);
            let read: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn a_units_file_is_what_says_its_variables_also_once_it_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("unit.env");
        fs::write(
            &file,
            "TOKEN=\"a\\\"b\"\n; note\nGONE=1\nODD=of the file\nno line\n",
        )
        .unwrap();
        let started_with = [
            ("TOKEN", "a\"b"),
            ("GONE", "1"),
            ("ODD", "drop-in"),
            ("OWN", "1"),
        ];
        let mut process: Environment = started_with.into_iter().collect();
        let unit_file = VariablesFile::of_unit(file.clone(), &mut process).unwrap();
        let read = || {
            let mut environment = process.clone();
            unit_file.put_into(&mut environment).unwrap();
            ["TOKEN", "GONE", "ODD", "OWN", "NEW"]
                .map(|name| environment.text(name).map(str::to_owned))
        };
        let values = |values: [Option<&str>; 5]| values.map(|value| value.map(str::to_owned));
        assert_eq!(
            read(),
            values([Some("a\"b"), Some("1"), Some("drop-in"), Some("1"), None])
        );
        fs::write(&file, "TOKEN=c\nNEW=2\n").unwrap();
        assert_eq!(
            read(),
            values([Some("c"), None, Some("drop-in"), Some("1"), Some("2")])
        );
        fs::remove_file(&file).unwrap();
        assert_eq!(
            read(),
            values([None, None, Some("drop-in"), Some("1"), None])
        );
    }

    #[test]
    fn a_dot_env_file_is_read_as_upstream_reads_it() {
        let text = "\u{feff}# comment\n\
            PLAIN=value\n\
            export EXPORTED = spaced out \t\n\
            COLON: yes\n\
            EMPTY=\n\
            HASH=value # comment\n\
            DOUBLE=\"a # b\\nc\" # comment\n\
            SINGLE='a\\nb'\n\
            BACK=`x'\"y`\n\
            MULTI=\"first\nsecond\"\n\
            UNCLOSED='a\n\
            no assignment here\n\
            a.b=dotted\n\
            CRLF=value\r\n\
            LAST=end";
        let expected = owned(&[
            ("PLAIN", "value"),
            ("EXPORTED", "spaced out"),
            ("COLON", "yes"),
            ("EMPTY", ""),
            ("HASH", "value"),
            ("DOUBLE", "a # b\nc"),
            ("SINGLE", "a\\nb"),
            ("BACK", "x'\"y"),
            ("MULTI", "first\nsecond"),
            ("UNCLOSED", "'a"),
            ("CRLF", "value"),
            ("LAST", "end"),
        ]);
        assert_eq!(dot_env(text), expected);
    }

    #[test]
    fn an_environment_file_is_read_strictly() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.env");
        let write = |text: &str, mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            read_strict(&file).map_err(|error| error.to_string())
        };
        let text =
            "# written by install\n\nA=plain value$x\nexport B='it'\\''s'\nC=\"a\\\"b\\\\c\"\nD=\n";
        let expected = owned(&[
            ("A", "plain value$x"),
            ("B", "it's"),
            ("C", "a\"b\\c"),
            ("D", ""),
        ]);
        assert_eq!(write(text, 0o600), Ok(expected));
        for (text, line) in [
            ("A=1\nnonsense", 2),
            ("1A=1", 1),
            ("A='open", 1),
            ("A='a'b", 1),
            ("exportA", 1),
        ] {
            let error = write(text, 0o600).unwrap_err();
            assert!(
                error.contains(&format!("node.env:{line}: ")),
                "{text}: {error}"
            );
        }
        for mode in [0o640, 0o604, 0o620] {
            let error = write("A=hunter2", mode).unwrap_err();
            assert!(
                error.contains("chmod 600") && !error.contains("hunter2"),
                "{error}"
            );
        }
        fs::remove_file(&file).unwrap();
        let error = read_strict(&file).unwrap_err();
        assert!(matches!(error, EnvFileError::Unreadable { .. }), "{error}");
        assert!(read_dot_env(&file).unwrap().is_empty());
    }
}
