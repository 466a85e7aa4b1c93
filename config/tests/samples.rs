//! The folders beside this file: what is valid loads, what is invalid is refused with the line, the
//! key and what was expected, which its first line says.

#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};

use openclaw_node_config::{Environment, OpenclawJson, Paths, Settings};

/// Every file of a folder; there are some.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

/// What the first line of an invalid file expects behind the file's name and a colon.
fn expectation(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let first = text.lines().next().unwrap();
    let expected = first.strip_prefix("// expect: ");
    expected
        .unwrap_or_else(|| panic!("{} expects nothing", file.display()))
        .to_owned()
}

fn load(file: &Path) -> Result<OpenclawJson, String> {
    let paths = Paths {
        home: PathBuf::from("/home/operator"),
        state_dir: file.parent().unwrap().to_owned(),
        config_file: file.to_owned(),
    };
    OpenclawJson::load(&paths, &mut Environment::default()).map_err(|error| error.to_string())
}

fn is_refused<T>(file: &Path, outcome: Result<T, String>) {
    let error = outcome
        .err()
        .unwrap_or_else(|| panic!("{} loads", file.display()));
    let expected = format!("{}:{}", file.display(), expectation(file));
    assert!(error.starts_with(&expected), "{error}\nis not\n{expected}");
}

#[test]
fn valid_files_load() {
    for file in files("tests/valid_settings") {
        Settings::load(&file).unwrap_or_else(|error| panic!("{error}"));
    }
    for file in files("tests/valid_openclaw_json") {
        load(&file).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn invalid_files_are_refused_with_line_key_and_what_was_expected() {
    for file in files("tests/invalid_settings") {
        is_refused(
            &file,
            Settings::load(&file).map_err(|error| error.to_string()),
        );
    }
    for file in files("tests/invalid_openclaw_json") {
        is_refused(&file, load(&file));
    }
}

#[test]
fn the_example_shows_every_default() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("openclaw-node.example.json5");
    assert_eq!(Settings::load(&example).unwrap(), Settings::default());
    // Nothing that could be set is missing from it: each line of the whole set names a key of it.
    let text = fs::read_to_string(&example).unwrap();
    let everything = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/valid_settings/everything.json5"),
    );
    let everything = everything.unwrap();
    let keys = everything
        .split(|character: char| !character.is_ascii_alphanumeric())
        .zip(everything.split_inclusive(|character: char| !character.is_ascii_alphanumeric()))
        .filter(|(word, whole)| !word.is_empty() && whole.ends_with(':'));
    for (key, _) in keys {
        assert!(text.contains(&format!("{key}:")), "{key}");
    }
}
