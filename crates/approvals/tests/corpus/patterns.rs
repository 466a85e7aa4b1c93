//! Any pattern and argument pattern against any program: no panic, and a glob says what the plain
//! definition of a glob says.

#[path = "glob_model.rs"]
mod glob_model;

use std::path::PathBuf;

use approvals::allowlist::{Allowlist, Arguments, Invocation, Resolution, Target};
use approvals::document::Entry;

/// How long what is matched may be, so that the plain definition stays affordable.
const MAX_CHARS: usize = 24;

/// What must hold for this input.
pub(crate) fn check(text: &str) {
    let mut parts = text.splitn(3, '\n');
    let pattern = parts.next().unwrap_or_default();
    let name = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    let (arg_pattern, arguments) = rest.split_once('\n').unwrap_or((rest, ""));

    let path = format!("/{name}");
    let argv: Vec<String> = [path.as_str()]
        .into_iter()
        .chain(arguments.split('\n'))
        .map(str::to_owned)
        .collect();
    let target = Target::Program(Invocation {
        resolution: Resolution {
            raw_token: argv[0].clone(),
            resolved_path: Some(PathBuf::from(&path)),
            real_path: Some(PathBuf::from(&path)),
        },
        argv,
    });
    let found = |pattern: &str, arg_pattern: Option<&str>| {
        let entry = Entry {
            pattern: pattern.to_owned(),
            arg_pattern: arg_pattern.map(str::to_owned),
            ..Entry::default()
        };
        let arguments = Arguments {
            cwd: Some("/srv"),
            expand: false,
        };
        let entries = [&entry];
        let allowlist = Allowlist::new(&entries, None);
        let found = allowlist.find(&target, arguments).is_some();
        if !found {
            // Whatever keeps a rule from matching can be told.
            let miss = allowlist.explain_miss(&entries, &target, arguments);
            assert!(!miss.to_string().is_empty());
        }
        found
    };

    found("/**", Some(arg_pattern));

    let glob = format!("/{}", pattern.trim());
    let plain = glob.trim_end();
    let is_short = plain.chars().count() <= MAX_CHARS && path.chars().count() <= MAX_CHARS;
    let has_dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
    if is_short
        && !has_dots
        && plain == glob
        && glob.trim_matches(approvals::command::is_space) == glob
    {
        let glob: Vec<char> = glob.chars().collect();
        let path: Vec<char> = path.chars().collect();
        let expected = glob_model::matches(&glob, &path);
        assert_eq!(found(plain, None), expected);
    }
}
