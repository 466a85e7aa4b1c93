//! One value of openclaw.json, read without guessing.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use approvals::policy::UnknownValue;
use config::{Map, Value, ValueKind};

use crate::OpenclawJsonError;

/// The longest time that upstream takes for a secret's provider (config §4.1) and, in 2026.5.20, for
/// the start of a browser, in milliseconds.
const TIMEOUT_LIMIT_MS: u64 = 120_000;

/// Where values stand. Layering keeps that of every value but an object.
pub(crate) struct Origins {
    /// The file that is read.
    file: PathBuf,
    /// Where objects begin, by the key that leads to them.
    pub(crate) objects: BTreeMap<String, String>,
}

impl Origins {
    pub(crate) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            objects: BTreeMap::new(),
        }
    }
}

/// A value and the way to it.
pub(crate) struct Setting<'a> {
    /// Where it and its siblings stand.
    pub(crate) origins: &'a Origins,
    /// The path of keys that leads to it; empty for the root.
    pub(crate) key: String,
    /// What stands there, in the type it was written in.
    pub(crate) value: &'a Value,
}

impl<'a> Setting<'a> {
    pub(crate) fn wrong(&self, expected: &'static str) -> OpenclawJsonError {
        OpenclawJsonError::Wrong {
            place: self.place(),
            key: self.key.clone(),
            expected,
        }
    }

    /// Where it stands, as `file:line`.
    pub(crate) fn place(&self) -> String {
        let object = self.origins.objects.get(&self.key).map(String::as_str);
        match self.value.origin().or(object) {
            Some(place) => place.to_owned(),
            None => self.origins.file.display().to_string(),
        }
    }

    fn below(&self, key: String, value: &'a Value) -> Self {
        Self {
            origins: self.origins,
            key,
            value,
        }
    }

    fn table(&self) -> Result<&'a Map<String, Value>, OpenclawJsonError> {
        match &self.value.kind {
            ValueKind::Table(members) => Ok(members),
            _ => Err(self.wrong("an object")),
        }
    }

    /// Every member in the order of its name, so that the same file always fails the same way.
    pub(crate) fn members(&self) -> Result<Vec<(&'a str, Self)>, OpenclawJsonError> {
        let mut members: Vec<(&'a str, Self)> = self
            .table()?
            .iter()
            .map(|(name, value)| (name.as_str(), self.below(self.key_of(name), value)))
            .collect();
        members.sort_by_key(|(name, _)| *name);
        Ok(members)
    }

    pub(crate) fn member(&self, name: &str) -> Result<Option<Self>, OpenclawJsonError> {
        let value = self.table()?.get(name);
        Ok(value.map(|value| self.below(self.key_of(name), value)))
    }

    /// What `read` makes of a member, if that is there.
    pub(crate) fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Self) -> Result<T, OpenclawJsonError>,
    ) -> Result<Option<T>, OpenclawJsonError> {
        self.member(name)?.map(|member| read(&member)).transpose()
    }

    fn key_of(&self, member: &str) -> String {
        match self.key.as_str() {
            "" => member.to_owned(),
            parent => format!("{parent}.{member}"),
        }
    }

    pub(crate) fn items(&self) -> Result<Vec<Self>, OpenclawJsonError> {
        let ValueKind::Array(items) = &self.value.kind else {
            return Err(self.wrong("an array"));
        };
        let item = |(index, value)| self.below(format!("{}[{index}]", self.key), value);
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(crate) fn text(&self) -> Result<&'a str, OpenclawJsonError> {
        match &self.value.kind {
            ValueKind::String(text) => Ok(text),
            _ => Err(self.wrong("a string")),
        }
    }

    /// Every item of an array of strings.
    pub(crate) fn texts(&self) -> Result<Vec<String>, OpenclawJsonError> {
        let items = self.items()?;
        items
            .iter()
            .map(|item| item.text().map(str::to_owned))
            .collect()
    }

    /// A boolean.
    pub(crate) fn flag(&self) -> Result<bool, OpenclawJsonError> {
        match self.value.kind {
            ValueKind::Boolean(flag) => Ok(flag),
            _ => Err(self.wrong("true or false")),
        }
    }

    /// A whole number within bounds.
    pub(crate) fn between(
        &self,
        bounds: RangeInclusive<u64>,
        expected: &'static str,
    ) -> Result<u64, OpenclawJsonError> {
        match self.value.kind {
            ValueKind::I64(number) => u64::try_from(number).ok(),
            ValueKind::U64(number) => Some(number),
            _ => None,
        }
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| self.wrong(expected))
    }

    /// A time in milliseconds, from 1 to [`TIMEOUT_LIMIT_MS`].
    pub(crate) fn timeout(&self) -> Result<Duration, OpenclawJsonError> {
        let expected = "a whole number of milliseconds from 1 to 120000";
        self.between(1..=TIMEOUT_LIMIT_MS, expected)
            .map(Duration::from_millis)
    }

    /// A number of things.
    pub(crate) fn count(&self) -> Result<usize, OpenclawJsonError> {
        match self.value.kind {
            ValueKind::I64(number) => usize::try_from(number).ok(),
            ValueKind::U64(number) => usize::try_from(number).ok(),
            _ => None,
        }
        .ok_or_else(|| self.wrong("a whole number, 0 or more"))
    }

    /// A member that is one of a few words.
    pub(crate) fn word<T>(&self, name: &str) -> Result<Option<T>, OpenclawJsonError>
    where
        T: FromStr<Err = UnknownValue>,
    {
        let Some(member) = self.member(name)? else {
            return Ok(None);
        };
        member
            .text()?
            .parse()
            .map(Some)
            .map_err(|source| OpenclawJsonError::UnknownWord {
                place: member.place(),
                key: member.key,
                source,
            })
    }
}
