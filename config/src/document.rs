//! A JSON5 file as a tree of values that know where they stand.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use config::{Map, Value, ValueKind};
use nix::fcntl::OFlag;

use crate::OpenclawJsonError;
use crate::lines::Lines;
use crate::nesting::{DEPTH_LIMIT, is_too_deep};

/// The largest file that is read, in bytes (config §4).
pub(crate) const FILE_LIMIT_BYTES: u64 = 2 * 1024 * 1024;

/// Whether a file may have other names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HardLinks {
    /// It may.
    Allowed,
    /// It may not: one of them could be somebody else's.
    Refused,
}

/// Reads a file and parses it; `None` when there is none.
pub(crate) fn read(file: &Path, links: HardLinks) -> Result<Option<Value>, OpenclawJsonError> {
    match text(file, links)? {
        Some(text) => parse(file, &text).map(Some),
        None => Ok(None),
    }
}

fn parse(file: &Path, text: &str) -> Result<Value, OpenclawJsonError> {
    let syntax = |detail: String| OpenclawJsonError::Syntax {
        file: file.to_owned(),
        detail,
    };
    if is_too_deep(text) {
        return Err(syntax(format!(
            "it is nested deeper than {DEPTH_LIMIT} levels"
        )));
    }
    let parsed: serde_json::Value =
        json5::from_str(text).map_err(|error| syntax(error.to_string()))?;
    let file = file.display().to_string();
    Ok(placed(&file, parsed, Some(&Lines::of(text))))
}

/// Keeps types as written, and gives each value its place, `file:line`.
fn placed(file: &str, value: serde_json::Value, lines: Option<&Lines>) -> Value {
    let place = match lines.map_or(0, Lines::line) {
        0 => file.to_owned(),
        line => format!("{file}:{line}"),
    };
    let kind = match value {
        serde_json::Value::Null => ValueKind::Nil,
        serde_json::Value::Bool(value) => ValueKind::Boolean(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => ValueKind::I64(number),
            (None, Some(number)) => ValueKind::U64(number),
            (None, None) => number.as_f64().map_or(ValueKind::Nil, ValueKind::Float),
        },
        serde_json::Value::String(text) => ValueKind::String(text),
        serde_json::Value::Array(items) => ValueKind::Array(
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| placed(file, item, lines.and_then(|lines| lines.item(index))))
                .collect(),
        ),
        serde_json::Value::Object(members) => ValueKind::Table(
            members
                .into_iter()
                .map(|(name, value)| {
                    let lines = lines.and_then(|lines| lines.member(&name));
                    let value = placed(file, value, lines);
                    (name, value)
                })
                .collect::<Map<_, _>>(),
        ),
    };
    Value::new(Some(&place), kind)
}

fn text(file: &Path, links: HardLinks) -> Result<Option<String>, OpenclawJsonError> {
    let unreadable = |source| OpenclawJsonError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let opened = match open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = opened.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(OpenclawJsonError::NotAFile {
            file: file.to_owned(),
        });
    }
    if links == HardLinks::Refused && metadata.nlink() > 1 {
        return Err(OpenclawJsonError::HardLinked {
            file: file.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    opened
        .take(FILE_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        return Err(OpenclawJsonError::TooLarge {
            file: file.to_owned(),
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(OpenclawJsonError::Syntax {
            file: file.to_owned(),
            detail: "it is not UTF-8".to_owned(),
        }),
    }
}

fn open(file: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(file)
}
