use super::{
    Dialect, Joint, Kind, MAX_PAYLOAD_CHARS, PromptOnly, Reason, Refusal, Script, analyse,
};

const ALL: [Dialect; 5] = [
    Dialect::Posix,
    Dialect::Bash,
    Dialect::Korn,
    Dialect::Zsh,
    Dialect::Fish,
];

fn read(payload: &str) -> Script {
    analyse(payload, Dialect::Posix).unwrap_or_else(|why| panic!("{payload:?}: {why}"))
}

fn refused(payload: &str, dialect: Dialect) -> Option<Refusal> {
    analyse(payload, dialect).err()
}

fn argvs(script: &Script) -> Vec<Vec<&str>> {
    script
        .segments
        .iter()
        .map(|segment| segment.argv.iter().map(String::as_str).collect())
        .collect()
}

#[test]
fn operators_join_segments() {
    let text = "\n# c\na && b\n|| c;d\n\n e | f # g && h\n|\n# i\nj ;\n";
    assert_eq!(
        refused(text, Dialect::Posix).map(|why| why.reason),
        Some(Reason::MissingCommand),
        "a line may not begin with an operator"
    );
    let script = read("\n# c\na && b ||\n c;d\n\n e | f # g && h\nj |\n# i\nk ;\n");
    let joints: Vec<Joint> = script.segments.iter().map(|it| it.joint).collect();
    assert_eq!(
        argvs(&script).concat(),
        ["a", "b", "c", "d", "e", "f", "j", "k"]
    );
    assert_eq!(
        joints,
        [
            Joint::First,
            Joint::And,
            Joint::Or,
            Joint::Then,
            Joint::Then,
            Joint::Pipe,
            Joint::Then,
            Joint::Pipe
        ]
    );
    for dialect in [Dialect::Bash, Dialect::Zsh] {
        let script = analyse("a |& b", dialect).unwrap();
        assert_eq!(script.segments[1].joint, Joint::PipeBoth);
    }
}

#[test]
fn words_are_what_the_program_gets() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str])] = &[
        ("echo a  b\tc", &["echo", "a", "b", "c"]),
        (r#"echo 'a b' "c d" e\ f"#, &["echo", "a b", "c d", "e f"]),
        (r#"ec"h"o 'it'\''s' "" ''"#, &["echo", "it's", "", ""]),
        (r#"echo "\$a \`b\` \"c\" \\ \d""#, &["echo", r#"$a `b` "c" \ \d"#]),
        (r"echo \$a \'b \\ \a \# \;", &["echo", "$a", "'b", r"\", "a", "#", ";"]),
        ("echo '$(a) `b`' \"<(c)\"", &["echo", "$(a) `b`", "<(c)"]),
        ("echo \"a && b\" 'c | d'", &["echo", "a && b", "c | d"]),
        ("echo a#b '#c' ''#d", &["echo", "a#b", "#c", "#d"]),
        ("grep -E \"^a$|b$\" c$", &["grep", "-E", "^a$|b$", "c$"]),
        ("echo 'a\nb' é\u{a0}日", &["echo", "a\nb", "é\u{a0}日"]),
        ("find . ! -name x", &["find", ".", "!", "-name", "x"]),
        ("[ -d /etc ]", &["[", "-d", "/etc", "]"]),
        ("./a%b/c.d x=y", &["./a%b/c.d", "x=y"]),
        ("echo 2 2>/dev/null 3", &["echo", "2", "3"]),
        ("echo \"2\">/dev/null", &["echo", "2"]),
    ];
    for (payload, words) in cases {
        let script = read(payload);
        assert_eq!(argvs(&script), [*words], "{payload:?}");
        assert!(script.segments[0].is_literal(), "{payload:?}");
    }
}

#[test]
fn spans_tell_where_words_stand() {
    let payload = "é=1 'a b' >/dev/null \"c\"d; e\\f";
    let refusal = refused(payload, Dialect::Posix).unwrap();
    assert_eq!(
        (refusal.reason, refusal.position),
        (Reason::UnusualExecutable, 0)
    );
    let payload = "A=1 'a b' >/dev/null \"c\"d; e\\f";
    let script = read(payload);
    let [first, second] = script.segments.as_slice() else {
        panic!("{script:?}")
    };
    let words: Vec<&str> = first
        .words
        .iter()
        .map(|it| &payload[it.span.clone()])
        .collect();
    assert_eq!(words, ["'a b'", "\"c\"d"]);
    assert_eq!(&payload[first.assignments[0].clone()], "A=1");
    assert_eq!(&payload[first.span()], "A=1 'a b' >/dev/null \"c\"d");
    assert_eq!(&payload[second.span()], "e\\f");
}

#[test]
fn what_a_shell_expands_in_arguments_is_marked() {
    for (payload, marks) in [
        ("echo *", [true, false, false]),
        ("echo a?", [true, false, false]),
        ("echo /et[c]", [true, false, false]),
        ("echo ~", [false, true, false]),
        ("echo a:~b", [false, true, false]),
        ("echo {a,b}", [false, false, true]),
        ("echo '*'\\~\"{\"", [false, false, false]),
        ("echo [", [false, false, false]),
    ] {
        let script = read(payload);
        let word = &script.segments[0].words[1];
        assert_eq!([word.glob, word.tilde, word.brace], marks, "{payload}");
        assert_eq!(word.is_literal(), marks == [false; 3], "{payload}");
        assert_eq!(script.segments[0].kind, Kind::Command);
    }
}

#[test]
fn only_harmless_redirections_are_read() {
    for payload in [
        "echo a >/dev/null",
        "echo a>/dev/null",
        "echo a > /dev/null",
        "echo a 2>/dev/null",
        "echo a 2>\t/dev/null",
        "echo a &>/dev/null",
        "echo a&> /dev/null",
        "echo a </dev/null",
        "echo a < /dev/null",
        "echo a 2>&1",
        "echo a 1>&2",
        "echo a 2>& 1",
        ">/dev/null echo a 2>&1",
        "echo a >/dev/null 2>&1",
        "echo a &>/dev/null 2>&1",
        "echo a >/dev/null&>/dev/null",
    ] {
        for dialect in ALL {
            let script = analyse(payload, dialect).unwrap();
            assert_eq!(argvs(&script), [["echo", "a"]], "{payload}");
        }
    }
    for (payload, reason) in [
        ("echo a > x", Reason::Redirection),
        ("echo a >> x", Reason::Redirection),
        ("echo a >>/dev/null", Reason::Redirection),
        ("echo a >|/dev/null", Reason::Redirection),
        ("echo a 1>/dev/null", Reason::Redirection),
        ("echo a 3>/dev/null", Reason::Redirection),
        ("echo a 12>/dev/null", Reason::Redirection),
        ("echo a 0</dev/null", Reason::Redirection),
        ("echo a <>/dev/null", Reason::Redirection),
        ("echo a >&2", Reason::Redirection),
        ("echo a >&/dev/null", Reason::Redirection),
        ("echo a 2>&-", Reason::Redirection),
        ("echo a 2>&2", Reason::Redirection),
        ("echo a 1>&1", Reason::Redirection),
        ("echo a 2>&12", Reason::Redirection),
        ("echo a 2>&1-", Reason::Redirection),
        ("echo a 2>&1x", Reason::Redirection),
        ("echo a 2>&1>/dev/null", Reason::Redirection),
        ("echo a &>>/dev/null", Reason::Redirection),
        ("echo a >/dev/nullx", Reason::Redirection),
        ("echo a >/dev/null/../x", Reason::Redirection),
        ("echo a >/dev/null\"x\"", Reason::Redirection),
        ("echo a >'/dev/null'", Reason::Redirection),
        ("echo a >$x", Reason::Redirection),
        ("echo a >", Reason::Redirection),
        ("echo a <", Reason::Redirection),
        ("cat < /etc/hostname", Reason::Redirection),
        ("cat <<E\nx\nE", Reason::HereDocument),
        ("cat <<<x", Reason::HereDocument),
        ("cat <(x)", Reason::ProcessSubstitution),
        ("tee >(x)", Reason::ProcessSubstitution),
        (">/dev/null", Reason::MissingCommand),
        ("&>/dev/null echo a", Reason::Unportable),
        // A shell without `&>` runs b.
        ("echo a &>/dev/null b", Reason::Unportable),
    ] {
        for dialect in ALL {
            let why = refused(payload, dialect).map(|why| why.reason);
            assert_eq!(why, Some(reason), "{payload}");
        }
    }
}

#[test]
fn what_is_not_understood_is_refused_where_it_stands() {
    #[rustfmt::skip]
    let cases = [
        ("", Reason::MissingCommand, 0),
        (" \n# a\n", Reason::MissingCommand, 6),
        ("; a", Reason::MissingCommand, 1),
        ("a ; ; b", Reason::MissingCommand, 5),
        ("a &&", Reason::MissingCommand, 4),
        ("a |\n\n", Reason::MissingCommand, 5),
        ("&& a", Reason::MissingCommand, 2),
        ("a || ; b", Reason::MissingCommand, 6),
        ("a && | b", Reason::MissingCommand, 6),
        ("a &", Reason::Background, 2),
        ("a & b", Reason::Background, 2),
        ("a &&& b", Reason::Background, 4),
        ("a ;; b", Reason::CaseOperator, 2),
        ("a ;& b", Reason::CaseOperator, 2),
        ("(a)", Reason::Parenthesis, 0),
        ("a (b)", Reason::Parenthesis, 2),
        ("a() { b; }", Reason::Parenthesis, 1),
        ("echo !(a)", Reason::Parenthesis, 6),
        ("a=(b c)", Reason::Parenthesis, 2),
        ("{ a; }", Reason::ReservedWord, 0),
        ("if a; then b; fi", Reason::ReservedWord, 0),
        ("for i in a; do b; done", Reason::ReservedWord, 0),
        ("while a; do b; done", Reason::ReservedWord, 0),
        ("until a; do b; done", Reason::ReservedWord, 0),
        ("select i in a; do b; done", Reason::ReservedWord, 0),
        ("case a in a) b;; esac", Reason::ReservedWord, 0),
        ("a; then b", Reason::ReservedWord, 3),
        ("! a", Reason::ReservedWord, 0),
        ("[[ -d a ]]", Reason::ReservedWord, 0),
        ("coproc a", Reason::ReservedWord, 0),
        ("function a { b; }", Reason::ReservedWord, 0),
        ("a $(b)", Reason::CommandSubstitution, 2),
        ("a \"$(b)\"", Reason::CommandSubstitution, 3),
        ("a `b`", Reason::CommandSubstitution, 2),
        ("a \"`b`\"", Reason::CommandSubstitution, 3),
        ("A=$(b) a", Reason::CommandSubstitution, 2),
        ("a $b", Reason::Expansion, 2),
        ("a '' $b", Reason::Expansion, 5),
        ("a x\"$b\"", Reason::Expansion, 4),
        ("a ${b}", Reason::Expansion, 2),
        ("a $((1+1))", Reason::Expansion, 2),
        ("a $1", Reason::Expansion, 2),
        ("a \"$@\"", Reason::Expansion, 3),
        ("a $'b'", Reason::DollarQuote, 2),
        ("a $\"b\"", Reason::DollarQuote, 2),
        ("a $[1]", Reason::Unportable, 2),
        ("$a", Reason::DynamicExecutable, 0),
        ("$0 \"$@\"", Reason::DynamicExecutable, 0),
        ("/bin/ec*o", Reason::DynamicExecutable, 0),
        ("~/a", Reason::DynamicExecutable, 0),
        ("{a,b} c", Reason::DynamicExecutable, 0),
        ("'' a", Reason::UnusualExecutable, 0),
        ("-x", Reason::UnusualExecutable, 0),
        ("a; -x", Reason::UnusualExecutable, 3),
        ("%1", Reason::UnusualExecutable, 0),
        ("A+=1", Reason::UnusualExecutable, 0),
        ("\"A\"=1 b", Reason::UnusualExecutable, 0),
        ("caf\u{e9} b", Reason::UnusualExecutable, 0),
        ("nice caf\u{e9} b", Reason::UnusualExecutable, 5),
        ("a 'b", Reason::UnbalancedQuote, 2),
        ("a \"b", Reason::UnbalancedQuote, 2),
        ("a 'b\"", Reason::UnbalancedQuote, 2),
        ("a \\", Reason::LineContinuation, 2),
        ("a \\\nb", Reason::LineContinuation, 2),
        ("a \"\\\nb\"", Reason::LineContinuation, 3),
        ("a # b\\\nc", Reason::LineContinuation, 5),
        ("a\r\nb", Reason::ControlCharacter, 1),
        ("a '\u{7}'", Reason::ControlCharacter, 3),
        ("a \0", Reason::ControlCharacter, 2),
        ("a # \u{1b}", Reason::ControlCharacter, 4),
        ("a \u{9b}", Reason::ControlCharacter, 3),
        ("echo {fd}>/dev/null", Reason::Redirection, 9),
        ("time", Reason::Unportable, 0),
        ("time -f %e a", Reason::UnusualExecutable, 5),
        ("time '-p' a", Reason::UnusualExecutable, 5),
        ("time if a", Reason::ReservedWord, 5),
        ("time A=1 a", Reason::UnusualExecutable, 5),
        ("a | time b", Reason::Unportable, 4),
        ("time time -f %e a", Reason::Unportable, 0),
        ("time 2>&1 -p a", Reason::Unportable, 0),
    ];
    for (payload, reason, position) in cases {
        let why = refused(payload, Dialect::Posix).unwrap_or_else(|| panic!("{payload:?}"));
        assert_eq!(
            (why.reason, why.position),
            (reason, position),
            "{payload:?}"
        );
        for dialect in ALL {
            assert!(
                refused(payload, dialect).is_some(),
                "{payload:?} {dialect:?}"
            );
        }
    }
}

#[test]
fn what_one_character_set_reads_otherwise_is_refused() {
    // In GBK the last byte of the character takes the backslash with it, and the quote ends.
    for payload in [
        "echo \"\u{4f60}\\\" ; id #\"",
        "echo \u{4f60}\\\" ; id #\"",
        "echo \u{e0}|id",
        "echo \u{e0}#'\nid #'",
    ] {
        let why = refused(payload, Dialect::Bash).map(|why| why.reason);
        assert_eq!(why, Some(Reason::AmbiguousEncoding), "{payload:?}");
    }
    let script = read("echo '\u{4f60}\\' \"\u{4f60}|\" \u{4f60} | cat");
    assert_eq!(
        argvs(&script)[0],
        ["echo", "\u{4f60}\\", "\u{4f60}|", "\u{4f60}"]
    );
}

#[test]
fn what_only_some_shells_read_that_way_is_left_to_them() {
    for (payload, refusing) in [
        (
            "a |& b",
            &[Dialect::Posix, Dialect::Korn, Dialect::Fish][..],
        ),
        ("echo 'a\\' b", &[Dialect::Fish][..]),
        ("echo a\\nb", &[Dialect::Fish][..]),
        ("echo \"a$\"", &[Dialect::Fish][..]),
        ("echo a ^b", &[Dialect::Fish][..]),
        ("not a", &[Dialect::Fish][..]),
        ("echo =ls", &[Dialect::Zsh][..]),
        ("echo }", &[Dialect::Zsh][..]),
        (
            "time -p ls",
            &[Dialect::Korn, Dialect::Zsh, Dialect::Fish][..],
        ),
    ] {
        for dialect in ALL {
            let is_refused = refused(payload, dialect).is_some();
            assert_eq!(
                is_refused,
                refusing.contains(&dialect),
                "{payload} {dialect:?}"
            );
        }
    }
}

#[test]
fn a_segment_that_needs_a_human_may_expand_variables() {
    let builtin = |name: &str| PromptOnly::Builtin(name.to_owned());
    let blocked = |name: &str| PromptOnly::BlockedWrapper(name.to_owned());
    let evaluated = |name: &str| PromptOnly::EvaluatedOperand(name.to_owned());
    let carrier = |name: &str| PromptOnly::CommandCarrier(name.to_owned());
    let shell = |name: &str| PromptOnly::ShellBehindWrapper(name.to_owned());
    #[rustfmt::skip]
    let cases = [
        ("FOO=1 echo a", PromptOnly::Assignment),
        ("FOO=1", PromptOnly::Assignment),
        ("FOO=$x BAR=${y} BAZ=\"${z:-a}\" echo $((n + 1)) $@", PromptOnly::Assignment),
        ("eval echo a", builtin("eval")),
        ("\\eval $x", builtin("eval")),
        ("ev'a'l x", builtin("eval")),
        (". ./x.sh", builtin(".")),
        ("source \"$x\"", builtin("source")),
        ("alias ls=rm", builtin("alias")),
        ("command eval x", builtin("eval")),
        ("exec . x", builtin(".")),
        ("nice eval x", builtin("eval")),
        ("export PATH=/x", builtin("export")),
        ("set -- a", builtin("set")),
        ("trap 'rm x' EXIT", builtin("trap")),
        ("hash -p /x ls", builtin("hash")),
        ("xargs echo", carrier("xargs")),
        ("/usr/bin/xargs rm", carrier("xargs")),
        ("env xargs rm", carrier("xargs")),
        ("find / -exec echo {} \\;", PromptOnly::FindAction),
        ("find $x -ok rm {} +", PromptOnly::FindAction),
        ("/usr/bin/find . -execdir x \\;", PromptOnly::FindAction),
        ("find . '-okdir' x \\;", PromptOnly::FindAction),
        ("find {.,-exec,rm,{}}", PromptOnly::FindAction),
        ("find *", PromptOnly::FindAction),
        ("find -e*c x", PromptOnly::FindAction),
        ("find . -[e]xec x", PromptOnly::FindAction),
        ("sudo echo a", blocked("sudo")),
        ("sudo $x", blocked("sudo")),
        ("nice sudo a", blocked("sudo")),
        ("env FOO=1 a", blocked("env")),
        ("env -S 'a b'", blocked("env")),
        ("command -p a", blocked("command")),
        ("busybox ls", blocked("busybox")),
        ("busybox sh -c a", shell("busybox")),
        ("env sh +c a", shell("env")),
        ("env sh -c a", shell("env")),
        ("nice bash -c 'a'", shell("nice")),
        ("exec sh -c a", shell("exec")),
        ("command sh -lc a", shell("command")),
        ("exec -a x ls", blocked("exec")),
        ("builtin echo a", blocked("builtin")),
        // bash runs the inner command to tell the subscript.
        ("test -v 'a[$(id)]'", evaluated("test")),
        ("[ -v x ]", evaluated("[")),
        ("command test -v x", evaluated("test")),
        ("test 'a[$(id)]' -eq 1", evaluated("test")),
        ("[ 1 -lt LC_X ]", evaluated("[")),
        ("[ -t x ]", evaluated("[")),
        ("test *", evaluated("test")),
        ("printf -v PATH %s /x", evaluated("printf")),
        ("printf *", evaluated("printf")),
        ("printf '%d' 'a[$(id)]'", evaluated("printf")),
        ("printf '%s%*d' a b c", evaluated("printf")),
        ("printf '%s %d' 1 2 3 a[x]", evaluated("printf")),
        ("printf '%s %d' 1 {2,x}", evaluated("printf")),
    ];
    for (payload, why) in cases {
        let script = read(payload);
        assert_eq!(script.segments[0].kind, Kind::PromptOnly(why), "{payload}");
    }
    for payload in [
        "eval $(x)",
        "FOO=`x` a",
        "eval ${x:-$(y)}",
        "eval ${x:-'}'}",
    ] {
        assert!(refused(payload, Dialect::Bash).is_some(), "{payload}");
    }
}

#[test]
fn a_shell_that_is_fed_commands_needs_a_human() {
    let kinds = |payload: &str| -> Vec<Kind> {
        let script = read(payload);
        script.segments.into_iter().map(|it| it.kind).collect()
    };
    let fed = |name: &str| Kind::PromptOnly(PromptOnly::CommandCarrier(name.to_owned()));
    for (payload, name) in [
        ("echo id | sh", "sh"),
        ("echo id | /bin/bash -x", "bash"),
        ("echo id | nice dash", "dash"),
        ("echo id | sh -s a", "sh"),
        ("echo id | sh -", "sh"),
    ] {
        assert_eq!(kinds(payload)[1], fed(name), "{payload}");
    }
    assert_eq!(kinds("echo id; sh")[1], Kind::Command);
    assert_eq!(kinds("echo id | sh ./x.sh")[1], Kind::Command);
    let Kind::Nested(nested) = &kinds("echo id | sh -c 'true; sh'")[1] else {
        panic!("the inner text is plain")
    };
    assert_eq!(nested.script.segments[1].kind, fed("sh"));
}

#[test]
fn a_command_behind_transparent_wrappers_is_judged() {
    for (payload, policy) in [
        ("env echo a", "echo a"),
        ("nice -n5 env -- echo a", "echo a"),
        ("timeout -k1 5 echo a", "echo a"),
        ("command -- echo a", "echo a"),
        ("exec echo a", "echo a"),
        ("time -p echo a", "echo a"),
        ("nice cd /", "cd /"),
        ("find / -maxdepth 0", "find / -maxdepth 0"),
        ("find . -name *.txt", "find . -name *.txt"),
        ("find ./* -name x", "find ./* -name x"),
        ("printf '%s %d' a 1", "printf %s %d a 1"),
        ("sh x.sh *", "sh x.sh *"),
    ] {
        let script = read(payload);
        let segment = &script.segments[0];
        assert_eq!(segment.kind, Kind::Command, "{payload}");
        assert_eq!(segment.policy_argv().join(" "), policy, "{payload}");
    }
    for payload in [
        "nice /bin/r*",
        "timeout {5,rm} echo a",
        "env ~/a",
        "env * echo",
        "sh ./*.sh",
        "sh -x *",
        "npx {-y,x} eslint",
    ] {
        let why = refused(payload, Dialect::Posix).map(|why| why.reason);
        assert_eq!(why, Some(Reason::DynamicExecutable), "{payload}");
    }
}

#[test]
fn looking_around_needs_no_entry() {
    for payload in [
        "true",
        "false x",
        ": a",
        "pwd",
        "cd /x",
        "test -d /etc",
        "[ ! -e a ]",
        "[ 1 -lt 2 ]",
        "[ -t 1 ]",
    ] {
        assert_eq!(
            read(payload).segments[0].kind,
            Kind::SafeBuiltin,
            "{payload}"
        );
    }
    for payload in ["/bin/true", "nice cd /", "./test", "echo a"] {
        assert_eq!(read(payload).segments[0].kind, Kind::Command, "{payload}");
    }
}

#[test]
fn a_change_of_directory_is_remembered() {
    let script = read("ls; cd /x && ls | sh -c 'ls'");
    let after: Vec<bool> = script
        .segments
        .iter()
        .map(|it| it.after_directory_change)
        .collect();
    assert_eq!(after, [false, false, true, true]);
    let Kind::Nested(nested) = &script.segments[3].kind else {
        panic!("{script:?}")
    };
    assert!(nested.script.segments[0].after_directory_change);
    assert!(read("command cd /x; ./ls").segments[1].after_directory_change);
}

#[test]
fn a_shell_inside_is_opened_once() {
    let opened = |payload: &str| match &read(payload).segments[0].kind {
        Kind::Nested(nested) => Some(
            nested
                .script
                .segments
                .iter()
                .map(|it| it.argv.join(" "))
                .collect::<Vec<_>>()
                .join("|"),
        ),
        Kind::Shell => None,
        kind => panic!("{payload}: {kind:?}"),
    };
    for (payload, inner) in [
        ("sh -c 'echo a'", "echo a"),
        ("bash -c 'echo a && echo b'", "echo a|echo b"),
        ("bash -euo pipefail -c 'echo a'", "echo a"),
        ("bash -ceuo pipefail 'echo a'", "echo a"),
        ("bash -o pipefail +o noglob -xc 'echo a'", "echo a"),
        ("sh -ec 'echo a' x y", "echo a"),
        ("sh -c \"eval x\"", "eval x"),
        ("sh -c \"sh -c 'echo a'\"", "sh -c echo a"),
        ("bash -c 'a |& b'", "a|b"),
    ] {
        assert_eq!(opened(payload).as_deref(), Some(inner), "{payload}");
    }
    let script = read("sh -c \"sh -c 'echo a'\"");
    let Kind::Nested(nested) = &script.segments[0].kind else {
        panic!("{script:?}")
    };
    assert_eq!(nested.payload_index, 2);
    assert_eq!(nested.script.segments[0].kind, Kind::Shell);
    for payload in [
        "/bin/sh -c 'echo a'",
        "sh -c '/bin/echo a'",
        "sh -c 'nice ./x'",
        "sh -c 'my-wrapper a'",
        "sh -c 'echo \"$1\"' x y",
        "sh -c '$0 \"$@\"' python3 -c 1",
        "sh -c 'echo a > b'",
        "sh -c 'a |& b'",
        "sh -lc 'echo a'",
        "bash -ic 'echo a'",
        "bash --login -c 'echo a'",
        "bash --rcfile x -c 'echo a'",
        "bash -O extglob -c 'echo a'",
        "sh -c -x 'echo a'",
        "bash -c'echo a'",
        "csh -c 'echo a'",
        "nu -c 'echo a'",
    ] {
        assert_eq!(opened(payload), None, "{payload}");
    }
}

#[test]
fn a_text_is_read_up_to_a_bound() {
    let longest = format!("echo {}", "\u{e9}".repeat(MAX_PAYLOAD_CHARS - 5));
    assert!(refused(&longest, Dialect::Posix).is_none());
    let why = refused(&(longest.clone() + "e"), Dialect::Posix).unwrap();
    assert_eq!((why.reason, why.position), (Reason::TooLong, longest.len()));
    let many = "a;".repeat(MAX_PAYLOAD_CHARS / 2);
    assert_eq!(read(&many).segments.len(), MAX_PAYLOAD_CHARS / 2);
}

#[test]
fn a_refusal_says_what_and_where() {
    let why = refused("echo a > b", Dialect::Posix).unwrap();
    assert_eq!(why.to_string(), "redirection at byte 7");
}
