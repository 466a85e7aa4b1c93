//! Placeholders of the corpus: what differs from machine to machine and from run to run.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What the placeholders stand for right now.
#[derive(Debug, Default)]
pub(crate) struct Placeholders {
    /// `$TMP`: the scratch folder.
    pub(crate) scratch: PathBuf,
    /// `%HOME%`: the node's home.
    pub(crate) home: PathBuf,
    /// `$NODECWD`: the node's working directory.
    pub(crate) working_directory: PathBuf,
    /// `$BASE`: a folder that holds a program named `node`.
    pub(crate) base: PathBuf,
    /// `$ROOT`: the folder that the state folder is in.
    pub(crate) root: PathBuf,
    /// The node's PATH, for `$WHICH`.
    pub(crate) search_path: String,
    /// `$HASH`: the hash of the approvals document.
    pub(crate) hash: String,
    /// What the prelude saved, such as `PLAN`.
    pub(crate) saved: HashMap<String, Value>,
}

impl Placeholders {
    /// The value with every placeholder replaced.
    pub(crate) fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self
                .saved_value(text)
                .unwrap_or_else(|| Value::String(self.fill_text(text))),
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(name, value)| (name.clone(), self.fill(value)))
                    .collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// The text with every placeholder replaced.
    pub(crate) fn fill_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in [
            ("$TMP", self.scratch.to_string_lossy()),
            ("%HOME%", self.home.to_string_lossy()),
            ("$NODECWD", self.working_directory.to_string_lossy()),
            ("$BASE", self.base.to_string_lossy()),
            ("$ROOT", self.root.to_string_lossy()),
            ("$HASH", self.hash.as_str().into()),
        ] {
            text = text.replace(name, &value);
        }
        for (name, function) in [
            ("$REAL(", Self::real as fn(&Self, &str) -> String),
            ("$WHICH(", Self::which),
            ("$SHA256(", Self::file_digest),
            ("$SHA16(", Self::short_digest),
            ("$CWDHASH(", Self::bound_arguments),
        ] {
            while let Some((before, rest)) = text.split_once(name) {
                let (argument, after) = rest.split_once(')').expect("a placeholder is closed");
                text = format!("{before}{}{after}", function(self, argument));
            }
        }
        while let Some((before, rest)) = text.split_once("$A*") {
            let digits = rest.chars().take_while(char::is_ascii_digit).count();
            let count = rest[..digits].parse().expect("a number of letters");
            text = format!("{before}{}{}", "a".repeat(count), &rest[digits..]);
        }
        text
    }

    /// `$PLAN`, `$PLAN.member`, `$PLAN.member[0]`, `$PLAN-member`, `$PLAN!sha`.
    fn saved_value(&self, text: &str) -> Option<Value> {
        let text = text.strip_prefix('$')?;
        let width = text
            .find(|c: char| !c.is_ascii_uppercase())
            .unwrap_or(text.len());
        let (name, rest) = text.split_at(width);
        let saved = self.saved.get(name)?;
        if let Some(member) = rest.strip_prefix('-') {
            let mut without = saved.clone();
            without
                .as_object_mut()?
                .remove(member)
                .expect("the member to leave out is there");
            return Some(without);
        }
        if rest == "!sha" {
            let mut wrong = saved.clone();
            wrong["mutableFileOperand"]["sha256"] = "0".repeat(64).into();
            return Some(wrong);
        }
        let Some(path) = rest.strip_prefix('.') else {
            return Some(saved.clone());
        };
        let pointer = format!("/{}", path.replace('[', "/").replace(']', ""));
        Some(saved.pointer(&pointer).cloned().unwrap_or(Value::Null))
    }

    fn real(&self, path: &str) -> String {
        fs::canonicalize(path)
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn which(&self, name: &str) -> String {
        let found = self
            .search_path
            .split(':')
            .map(|folder| format!("{folder}/{name}"));
        found
            .into_iter()
            .find(|path| fs::metadata(path).is_ok())
            .unwrap_or_else(|| panic!("{name}"))
    }

    fn file_digest(&self, path: &str) -> String {
        hexadecimal(&fs::read(path).unwrap())
    }

    fn short_digest(&self, text: &str) -> String {
        hexadecimal(text.as_bytes())[..16].to_owned()
    }

    /// The argument pattern that binds a working directory and every argument (§8.1).
    fn bound_arguments(&self, list: &str) -> String {
        let mut parts = list.split('|');
        let mut bytes = Vec::new();
        let mut append = |text: &str| {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        };
        let folder = parts.next().unwrap_or_default();
        append(&folder.len().to_string());
        append(folder);
        let arguments: Vec<&str> = parts.collect();
        append(&arguments.len().to_string());
        for argument in arguments {
            append(&argument.len().to_string());
            append(argument);
        }
        format!("sha256:cwd-argv:v1:{}", hexadecimal(&bytes))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
