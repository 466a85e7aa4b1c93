//! A JSON5 file as a tree of values that know where they stand.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use config::{Map, Value, ValueKind};
use nix::fcntl::OFlag;

use crate::OpenclawJsonError;
use crate::json5_text::{Json5Error, parse_json5};
use crate::lines::Lines;
use crate::text_file::{NoText, TextFile};

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
    let parsed = parse_json5(text).map_err(|error| OpenclawJsonError::Syntax {
        file: file.to_owned(),
        detail: match error {
            Json5Error::TooDeep => error.to_string(),
            Json5Error::Syntax(detail) => detail,
        },
    })?;
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
    let refused = |reason| match reason {
        NoText::Unreadable(source) => OpenclawJsonError::Unreadable {
            file: file.to_owned(),
            source,
        },
        NoText::NotAFile => OpenclawJsonError::NotAFile {
            file: file.to_owned(),
        },
        NoText::TooLarge => OpenclawJsonError::TooLarge {
            file: file.to_owned(),
        },
        NoText::NotUtf8 => OpenclawJsonError::Syntax {
            file: file.to_owned(),
            detail: "it is not UTF-8".to_owned(),
        },
    };
    let Some(opened) = TextFile::open(file, OFlag::empty()).map_err(refused)? else {
        return Ok(None);
    };
    if links == HardLinks::Refused && opened.metadata.nlink() > 1 {
        return Err(OpenclawJsonError::HardLinked {
            file: file.to_owned(),
        });
    }
    opened.read(FILE_LIMIT_BYTES).map(Some).map_err(refused)
}
