//! Reading JSON objects strictly, member by member, with messages that say where and never what.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::document::DocumentError;

/// The members of an object that have not been read yet, and where the object stands.
pub(crate) struct Members {
    /// Where the object stands, for messages; empty at the root.
    pub(crate) path: String,
    /// What has not been read yet.
    pub(crate) map: Map<String, Value>,
}

impl Members {
    pub(crate) fn of(value: Value, path: String) -> Result<Self, DocumentError> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            _ => Err(DocumentError::shape(path, "an object")),
        }
    }

    pub(crate) fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    pub(crate) fn error(&self, key: &str, expected: &'static str) -> DocumentError {
        DocumentError::shape(self.path_of(key), expected)
    }

    pub(crate) fn take<T>(
        &mut self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, DocumentError> {
        match self.map.shift_remove(key) {
            None => Ok(None),
            Some(value) => match read(&value) {
                Some(value) => Ok(Some(value)),
                None => Err(self.error(key, expected)),
            },
        }
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, DocumentError> {
        self.take(key, "a text", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn parse<T: FromStr>(
        &mut self,
        key: &str,
        expected: &'static str,
    ) -> Result<Option<T>, DocumentError> {
        self.take(key, expected, |value| value.as_str()?.parse().ok())
    }

    pub(crate) fn members(&mut self, key: &str) -> Result<Option<Self>, DocumentError> {
        let path = self.path_of(key);
        match self.map.shift_remove(key) {
            None => Ok(None),
            Some(value) => Self::of(value, path).map(Some),
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        read: impl Fn(Value, String) -> Result<T, DocumentError>,
    ) -> Result<Option<Vec<T>>, DocumentError> {
        let path = self.path_of(key);
        match self.map.shift_remove(key) {
            None => Ok(None),
            Some(Value::Array(values)) => values
                .into_iter()
                .enumerate()
                .map(|(index, value)| read(value, format!("{path}[{index}]")))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(_) => Err(DocumentError::shape(path, "a list")),
        }
    }
}
