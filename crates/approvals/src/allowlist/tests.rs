use std::path::PathBuf;

use super::{Allowlist, Arguments, Invocation, Resolution, Target, Unanalysable, cwd_argv_binding};
use crate::digest::sha256_hex16;
use crate::document::Entry;

const HOME: &str = "/home/op";

fn invocation(argv: &[&str], found: Option<&str>, real: Option<&str>) -> Invocation {
    Invocation {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        resolution: Resolution {
            raw_token: argv[0].to_owned(),
            resolved_path: found.map(PathBuf::from),
            real_path: real.map(PathBuf::from),
        },
    }
}

/// `echo` with arguments, as it is found on a machine where `/bin` is a symlink to `/usr/bin`.
fn echo(argv: &[&str]) -> Target {
    Target::Program(invocation(argv, Some("/bin/echo"), Some("/usr/bin/echo")))
}

fn plain(pattern: &str) -> Entry {
    Entry {
        pattern: pattern.to_owned(),
        ..Entry::default()
    }
}

fn bound(pattern: &str, arg_pattern: &str) -> Entry {
    Entry {
        arg_pattern: Some(arg_pattern.to_owned()),
        ..plain(pattern)
    }
}

fn generated(entry: Entry) -> Entry {
    Entry {
        allow_always: true,
        ..entry
    }
}

fn find_in(entries: &[Entry], analysis: &Target, cwd: Option<&str>) -> Option<usize> {
    let entries: Vec<&Entry> = entries.iter().collect();
    let arguments = Arguments { cwd, expand: false };
    Allowlist::new(&entries, Some(HOME)).find(analysis, arguments)
}

#[test]
fn a_pattern_names_the_real_path_or_the_bare_name() {
    let by_name = echo(&["echo", "a"]);
    let by_path = echo(&["/bin/echo", "a"]);
    for (pattern, name, path) in [
        ("/usr/bin/echo", true, true),
        ("  /usr/bin/echo  ", true, true),
        ("/bin/echo", false, false),
        ("/usr/bin/ECHO", false, false),
        ("/usr/*", false, false),
        ("/usr/*/echo", true, true),
        ("/**/echo", true, true),
        ("/usr/**", true, true),
        ("/usr?bin/echo", false, false),
        ("/usr/bin/ec.o", false, false),
        ("echo", true, false),
        ("ech?", true, false),
        ("e*", true, false),
        ("**", true, false),
        ("ECHO", false, false),
        ("*", true, true),
        ("", false, false),
        ("  ", false, false),
        ("~", false, false),
    ] {
        let entries = [plain(pattern)];
        let found = |analysis| find_in(&entries, analysis, None).is_some();
        assert_eq!(found(&by_name), name, "{pattern:?} by name");
        assert_eq!(found(&by_path), path, "{pattern:?} by path");
    }
}

#[test]
fn the_name_is_that_of_the_link_and_the_path_that_of_its_target() {
    let linked = Target::Program(invocation(
        &["python"],
        Some("/usr/bin/python"),
        Some("/usr/bin/python3.11"),
    ));
    for (pattern, expected) in [
        ("python", true),
        ("python3.11", false),
        ("/usr/bin/python3.11", true),
        ("/usr/bin/python", false),
    ] {
        let found = find_in(&[plain(pattern)], &linked, None);
        assert_eq!(found.is_some(), expected, "{pattern}");
    }
    let unreal = Target::Program(invocation(&["x"], Some("/opt/./a/../x"), None));
    assert_eq!(find_in(&[plain("/opt/*")], &unreal, None), Some(0));
    assert_eq!(find_in(&[plain("/opt/x")], &unreal, None), None);
}

#[test]
fn home_is_where_a_tilde_points() {
    let tool = "/home/op/bin/tool";
    let tool = Target::Program(invocation(&["tool"], Some(tool), Some(tool)));
    for (pattern, expected) in [
        ("~/bin/tool", true),
        ("~/**", true),
        ("~/bin", false),
        ("~op/bin/tool", false),
    ] {
        let found = find_in(&[plain(pattern)], &tool, None);
        assert_eq!(found.is_some(), expected, "{pattern}");
    }
    let argv = echo(&["~/bin/echo"]);
    assert_eq!(find_in(&[plain("echo")], &argv, None), None);
}

#[test]
fn only_the_bare_star_names_what_is_not_found() {
    let missing = Target::Program(invocation(&["nope"], None, None));
    for (entry, expected) in [
        (plain("*"), true),
        (plain(" * "), true),
        (bound("*", ""), true),
        (bound("*", "."), false),
        (generated(plain("*")), false),
        (plain("**"), false),
        (plain("nope"), false),
    ] {
        let found = find_in(std::slice::from_ref(&entry), &missing, None);
        assert_eq!(found.is_some(), expected, "{entry:?}");
    }
}

#[test]
fn arguments_are_searched_as_one_text() {
    let match_of = |pattern: &str, argv: &[&str]| {
        find_in(&[bound("echo", pattern)], &echo(argv), None).is_some()
    };
    assert!(match_of("^a$", &["echo", "a"]));
    assert!(!match_of("^a$", &["echo", "b"]));
    assert!(match_of("^a b$", &["echo", "a", "b"]));
    assert!(match_of("b", &["echo", "abc"]));
    assert!(!match_of("[", &["echo", "["]));
    assert!(match_of("^$", &["echo"]));
    assert!(match_of("^a\0b\0$", &["echo", "a", "b"]));
    assert!(!match_of("^a\0b\0$", &["echo", "a b"]));
    assert!(match_of("^\0\0$", &["echo"]));
    assert!(!match_of("(?!x)", &["echo", "a"]));
    assert!(!match_of("sha256:argv:abc", &["echo", "sha256:argv:abc"]));
}

#[test]
fn the_most_particular_entry_is_the_one_that_matched() {
    let command = echo(&["echo", "a"]);
    let miss = || bound("echo", "^x$");
    let hit = || bound("echo", "^a$");
    for (entries, expected) in [
        (vec![], None),
        (vec![miss()], None),
        (vec![miss(), plain("echo")], Some(1)),
        (vec![plain("echo"), hit()], Some(1)),
        (vec![plain("echo"), plain("/usr/bin/echo")], Some(0)),
        (vec![plain("echo"), hit(), plain("*")], Some(2)),
        (vec![hit(), hit()], Some(0)),
    ] {
        assert_eq!(find_in(&entries, &command, None), expected, "{entries:?}");
    }
}

#[test]
fn a_generated_entry_holds_only_for_its_directory_and_arguments() {
    let command = echo(&["/bin/echo", "q"]);
    let binding = "sha256:cwd-argv:v1:9c";
    let right = cwd_argv_binding("/tmp/x", &["echo".to_owned(), "q".to_owned()]);
    let entry = |arg_pattern| generated(bound("/usr/bin/echo", arg_pattern));
    for (entry, cwd, expected) in [
        (entry(&right), Some("/tmp/x"), true),
        (entry(&right), Some("/tmp/y/../x"), true),
        (entry(&right), Some("/tmp/x/"), false),
        (entry(&right), Some("/tmp"), false),
        (entry(&right), None, false),
        (entry(&right.to_uppercase()), Some("/tmp/x"), false),
        (entry(binding), Some("/tmp/x"), false),
        (bound("/usr/bin/echo", &right), Some("/tmp/x"), true),
        (
            generated(bound("/usr/bin/cat", &right)),
            Some("/tmp/x"),
            false,
        ),
        (generated(bound("echo", "^q$")), Some("/tmp/x"), false),
        (generated(plain("/usr/bin/echo")), Some("/tmp/x"), false),
    ] {
        let found = find_in(std::slice::from_ref(&entry), &command, cwd);
        assert_eq!(found.is_some(), expected, "{entry:?} in {cwd:?}");
    }
}

#[test]
fn trusting_a_shell_is_not_trusting_what_it_reads() {
    const SCRIPT: &str = "/srv/run.sh";
    let shell = |argv: &[&str]| Target::Shell {
        shell: invocation(argv, Some("/bin/sh"), Some("/usr/bin/dash")),
        script: None,
    };
    let with_script = Target::Shell {
        shell: invocation(
            &["sh", "run.sh", "x"],
            Some("/bin/sh"),
            Some("/usr/bin/dash"),
        ),
        script: Some(Invocation {
            resolution: Resolution {
                raw_token: "run.sh".to_owned(),
                ..invocation(&[SCRIPT], Some(SCRIPT), Some(SCRIPT)).resolution
            },
            ..invocation(&[SCRIPT, "x"], None, None)
        }),
    };
    let script_binding = cwd_argv_binding("/srv", &[SCRIPT.to_owned(), "x".to_owned()]);
    for (entry, bare, option, script) in [
        (plain("sh"), true, false, false),
        (plain("/usr/bin/dash"), true, false, false),
        (plain("*"), true, true, true),
        (bound("sh", "^run\\.sh x$"), false, false, true),
        (bound("sh", "."), false, true, true),
        (bound("sh", " "), false, false, false),
        (plain(SCRIPT), false, false, true),
        (plain("run.sh"), false, false, false),
        (bound(SCRIPT, "^x$"), false, false, true),
        (
            generated(bound(SCRIPT, &script_binding)),
            false,
            false,
            true,
        ),
    ] {
        let entries = [entry];
        let found = |analysis: &Target| find_in(&entries, analysis, Some("/srv")).is_some();
        assert_eq!(found(&shell(&["sh"])), bare, "{entries:?} bare");
        assert_eq!(found(&shell(&["sh", "-x"])), option, "{entries:?} option");
        assert_eq!(found(&with_script), script, "{entries:?} script");
    }
}

#[test]
fn nothing_satisfies_what_cannot_be_analysed() {
    for reason in [
        Unanalysable::ShellPayload,
        Unanalysable::BlockedWrapper,
        Unanalysable::PackageRunner,
    ] {
        let analysis = Target::Unanalysable(reason);
        let entries = [plain("*"), plain("**"), plain("/**")];
        assert_eq!(find_in(&entries, &analysis, Some("/")), None);
    }
}

#[test]
fn an_exact_command_is_granted_by_its_generated_entry_alone() {
    let text = "/bin/sh -c \"echo $HOME\"";
    let pattern = format!("=command:{}", sha256_hex16(text));
    let marker = format!("=node-command:{}", sha256_hex16(text));
    for (entry, expected) in [
        (generated(plain(&pattern)), true),
        (plain(&pattern), false),
        (generated(plain(&marker)), false),
        (generated(plain("=command:0000000000000000")), false),
    ] {
        let allowlist = Allowlist::new(&[&entry], None);
        let found = allowlist.find_exact_command(&format!(" {text} "));
        assert_eq!(found.is_some(), expected, "{entry:?}");
        assert_eq!(allowlist.find_exact_command("other"), None);
    }
    let blank = generated(plain(&format!("=command:{}", sha256_hex16(""))));
    assert_eq!(
        Allowlist::new(&[&blank], None).find_exact_command("  "),
        None
    );
}

#[test]
fn a_binding_is_the_digest_of_lengths_and_texts() {
    let argv = |words: &[&str]| -> Vec<String> {
        let executable = std::iter::once(&"ignored");
        executable
            .chain(words)
            .map(|&word| word.to_owned())
            .collect()
    };
    for (cwd, arguments, digest) in [
        (
            "/tmp/./x",
            vec!["q"],
            "18bc6d706f2f7983a5bfd568ac2f0ac8cd6e762471edfd2b2120f721849eee0a",
        ),
        (
            "/tmp/é",
            vec![],
            "420035135b8dc80dbc5ed5adc3f26b5f546cec2c3e391ba3a863430078920a6c",
        ),
        (
            "/tmp\\x",
            vec!["a b", "ü", ""],
            "130799ea352f0c69e038c1d8c81ca87e1bc0a2e361ca953e769c06520da6da02",
        ),
    ] {
        assert_eq!(
            cwd_argv_binding(cwd, &argv(&arguments)),
            format!("sha256:cwd-argv:v1:{digest}"),
            "{cwd}"
        );
    }
    assert_eq!(
        cwd_argv_binding("/", &[]),
        cwd_argv_binding("/", &argv(&[]))
    );
}

#[test]
fn hostile_entries_cost_no_more_than_their_length() {
    let path = format!("/{}", "a/".repeat(1_000));
    let program = Target::Program(invocation(&["x"], Some(&path), Some(&path)));
    let entries: Vec<Entry> = (0..20)
        .map(|_| plain(&("/**a*".repeat(100) + "b")))
        .collect();
    assert_eq!(find_in(&entries, &program, None), None);
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_text_is_named_by_the_star_alone() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let path = PathBuf::from(OsStr::from_bytes(b"/opt/\xff/x"));
    let mut program = invocation(&["x"], None, None);
    program.resolution.resolved_path = Some(path.clone());
    program.resolution.real_path = Some(path);
    let program = Target::Program(program);
    assert_eq!(find_in(&[plain("/opt/**")], &program, None), None);
    assert_eq!(find_in(&[plain("*")], &program, None), Some(0));
}

#[test]
fn nothing_is_bound_to_arguments_that_a_shell_still_changes() {
    let target = echo(&["echo", "*"]);
    let hash = cwd_argv_binding("/srv", &["echo".to_owned(), "*".to_owned()]);
    for (entry, expected) in [
        (bound("echo", r"^\*$"), false),
        (bound("echo", &hash), false),
        (plain("echo"), true),
    ] {
        let found = |expand| {
            let arguments = Arguments {
                cwd: Some("/srv"),
                expand,
            };
            Allowlist::new(&[&entry], None)
                .find(&target, arguments)
                .is_some()
        };
        assert!(found(false), "{entry:?}");
        assert_eq!(found(true), expected, "{entry:?}");
    }
}
