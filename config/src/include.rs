//! `$include`: parts of openclaw.json that stand in other files (config §4).

use std::path::{Component, Path, PathBuf};

use config::{Map, Value, ValueKind};

use crate::OpenclawJsonError;
use crate::document::{self, HardLinks};

/// The key that takes other files in.
const INCLUDE: &str = "$include";

/// How many files may take each other in (config §4).
const DEPTH_LIMIT: usize = 10;

/// Paths must be shorter than this, in characters (config §4).
const PATH_LIMIT: usize = 4096;

/// How many files one configuration may take in, counted as often as they are taken: ten levels of
/// a few files each would otherwise never end.
const FILE_COUNT_LIMIT: usize = 1000;

/// What must not happen while files are taken in.
struct Includes<'a> {
    /// Folders that files may lie in, as given and without links.
    roots: Vec<(PathBuf, PathBuf)>,
    /// The top-level keys that matter; files behind others are not even looked at.
    keys: &'a [&'a str],
    taken: usize,
}

/// The files that lead to a value.
struct Chain<'a> {
    file: &'a Path,
    before: Option<&'a Chain<'a>>,
}

impl Chain<'_> {
    fn depth(&self) -> usize {
        self.before.map_or(0, |before| before.depth() + 1)
    }

    fn contains(&self, file: &Path) -> bool {
        self.file == file || self.before.is_some_and(|before| before.contains(file))
    }
}

/// Puts what other files say in place, below the top-level `keys`.
pub(crate) fn resolve(
    root: Value,
    file: &Path,
    roots: &[PathBuf],
    keys: &[&str],
) -> Result<Value, OpenclawJsonError> {
    let folder = normal(file.parent().unwrap_or(Path::new("/")));
    let roots = std::iter::once(folder)
        .chain(roots.iter().map(|root| normal(root)))
        .map(|root| {
            let real = root.canonicalize().unwrap_or_else(|_| root.clone());
            (root, real)
        })
        .collect();
    let mut includes = Includes {
        roots,
        keys,
        taken: 0,
    };
    let file = normal(file);
    let chain = Chain {
        file: &file,
        before: None,
    };
    includes.resolve(root, &chain, true)
}

impl Includes<'_> {
    fn resolve(
        &mut self,
        value: Value,
        chain: &Chain<'_>,
        is_root: bool,
    ) -> Result<Value, OpenclawJsonError> {
        let place = value.origin().map(str::to_owned);
        let kind = match value.kind {
            ValueKind::Array(items) => ValueKind::Array(
                items
                    .into_iter()
                    .map(|item| self.resolve(item, chain, false))
                    .collect::<Result<_, _>>()?,
            ),
            ValueKind::Table(mut members) => {
                let include = members.remove(INCLUDE);
                let mut own = Map::new();
                for (name, member) in members {
                    if !is_root || self.keys.contains(&name.as_str()) {
                        own.insert(name, self.resolve(member, chain, false)?);
                    }
                }
                let Some(include) = include else {
                    return Ok(Value::new(place.as_ref(), ValueKind::Table(own)));
                };
                let included = self.include(&include, chain, is_root)?;
                if own.is_empty() {
                    return Ok(included);
                }
                if !matches!(included.kind, ValueKind::Table(_)) {
                    return Err(refused(
                        &include,
                        "other keys stand beside it, so the included file must hold an object",
                    ));
                }
                return Ok(merged(
                    included,
                    Value::new(place.as_ref(), ValueKind::Table(own)),
                ));
            }
            kind => kind,
        };
        Ok(Value::new(place.as_ref(), kind))
    }

    fn include(
        &mut self,
        include: &Value,
        chain: &Chain<'_>,
        is_root: bool,
    ) -> Result<Value, OpenclawJsonError> {
        let expected = "it must be a path, or an array of paths";
        match &include.kind {
            ValueKind::String(path) => self.load(path, include, chain, is_root),
            ValueKind::Array(items) => {
                let mut whole = Value::new(
                    include.origin().map(str::to_owned).as_ref(),
                    ValueKind::Table(Map::new()),
                );
                for item in items {
                    let ValueKind::String(path) = &item.kind else {
                        return Err(refused(item, expected));
                    };
                    let loaded = self.load(path, item, chain, is_root)?;
                    whole = merged(whole, loaded);
                }
                Ok(whole)
            }
            _ => Err(refused(include, expected)),
        }
    }

    fn load(
        &mut self,
        path: &str,
        include: &Value,
        chain: &Chain<'_>,
        is_root: bool,
    ) -> Result<Value, OpenclawJsonError> {
        let refused = |reason: &str| refused(include, reason);
        if path.contains('\0') {
            return Err(refused("the path must not contain a null byte"));
        }
        let folder = chain.file.parent().unwrap_or(Path::new("/"));
        let file = normal(&folder.join(path));
        let length = file.to_string_lossy().chars().count();
        if path.chars().count().max(length) >= PATH_LIMIT {
            return Err(refused("the path must be shorter than 4096 characters"));
        }
        if !self.roots.iter().any(|(root, _)| file.starts_with(root)) {
            return Err(refused(
                "it leads out of the folder of openclaw.json; put the file there, or name its folder in OPENCLAW_INCLUDE_ROOTS",
            ));
        }
        if chain.contains(&file) {
            return Err(refused("it leads back to itself"));
        }
        if chain.depth() >= DEPTH_LIMIT {
            return Err(refused("more than 10 files take each other in"));
        }
        self.taken += 1;
        if self.taken > FILE_COUNT_LIMIT {
            return Err(refused("more than 1000 files are taken in"));
        }
        let real = file
            .canonicalize()
            .map_err(|source| OpenclawJsonError::Unreadable {
                file: file.clone(),
                source,
            })?;
        if !self.roots.iter().any(|(_, root)| real.starts_with(root)) {
            return Err(refused(
                "a link leads out of the folder of openclaw.json; name the folder that it leads to in OPENCLAW_INCLUDE_ROOTS",
            ));
        }
        let missing = || OpenclawJsonError::Unreadable {
            file: file.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let value = document::read(&file, HardLinks::Refused)?.ok_or_else(missing)?;
        let chain = Chain {
            file: &file,
            before: Some(chain),
        };
        self.resolve(value, &chain, is_root)
    }
}

fn refused(include: &Value, reason: &str) -> OpenclawJsonError {
    OpenclawJsonError::Include {
        place: include.origin().unwrap_or_default().to_owned(),
        reason: reason.to_owned(),
    }
}

/// Objects are merged, arrays follow each other, of anything else the later one counts.
fn merged(earlier: Value, later: Value) -> Value {
    let place = later.origin().map(str::to_owned);
    match (earlier.kind, later.kind) {
        (ValueKind::Table(mut members), ValueKind::Table(later)) => {
            for (name, value) in later {
                let value = match members.remove(&name) {
                    Some(earlier) => merged(earlier, value),
                    None => value,
                };
                members.insert(name, value);
            }
            Value::new(place.as_ref(), ValueKind::Table(members))
        }
        (ValueKind::Array(mut items), ValueKind::Array(later)) => {
            items.extend(later);
            Value::new(place.as_ref(), ValueKind::Array(items))
        }
        (_, later) => Value::new(place.as_ref(), later),
    }
}

/// The path without `.` and `..`, by its text alone.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            component => normal.push(component),
        }
    }
    normal
}
