//! Command texts, most of them well-formed, some of them damaged.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const ODD: &[&str] = &[
    "'", "\"", "\\", "$", "`", "#", "&", "|", ";", "\n", " ", "\t", "<", ">", "(", ")", "{", "}",
    "!", "*", "?", "[", "]", "~", "=", "%", "^", "-", "2", "&>", "2>&1", "|&", "$(", "${", "$x",
    "<<", "é", "\u{a0}", "\r", "\\\n", " # ", "\n\n", "&&", "||", "A=1 ", "if", "time ", "! ",
    "{ ", "}\n", ";;",
];

/// A command text.
pub(crate) fn payload() -> impl Strategy<Value = String> {
    let whole = list(2);
    let damages = vec((any::<Index>(), select(ODD), any::<bool>()), 0..3);
    (whole, prop_oneof![Just(true), Just(false)], damages).prop_map(|(whole, intact, damages)| {
        if intact {
            return whole;
        }
        damages.into_iter().fold(whole, |text, (at, odd, replace)| {
            damage(&text, at, odd, replace)
        })
    })
}

fn damage(text: &str, at: Index, odd: &str, replace: bool) -> String {
    let letters: Vec<char> = text.chars().collect();
    let at = at.index(letters.len() + 1);
    let after = if replace { at + 1 } else { at };
    let start: String = letters.iter().take(at).collect();
    let end: String = letters.iter().skip(after).collect();
    format!("{start}{odd}{end}")
}

fn list(depth: u32) -> BoxedStrategy<String> {
    let joint = select(
        &[
            "&&",
            "||",
            ";",
            "|",
            "\n",
            " && ",
            " || ",
            " ; ",
            " | ",
            " \n ",
            "&&\n",
            "|| # c\n ",
            "|\n\n",
            ";\n",
            "\n\n",
            " # x ' y\n",
            " |& ",
        ][..],
    );
    let rest = vec((joint, command(depth)), 0..4);
    let start = select(&["", "", "", " ", "\n", "# c\n"][..]);
    let end = select(&["", "", "", ";", "\n", " ", " # end", " ;\n"][..]);
    (start, command(depth), rest, end)
        .prop_map(|(start, first, rest, end)| {
            let mut text = format!("{start}{first}");
            for (joint, command) in rest {
                text.push_str(joint);
                text.push_str(&command);
            }
            text + end
        })
        .boxed()
}

fn command(depth: u32) -> BoxedStrategy<String> {
    let carrier = select(
        &[
            "",
            "",
            "",
            "",
            "env ",
            "env -- ",
            "nice -n 5 ",
            "nice ",
            "nohup ",
            "timeout 5 ",
            "timeout -k1 5 ",
            "command ",
            "command -- ",
            "time ",
            "time -p ",
            "exec ",
            "nice env ",
        ][..],
    );
    let simple = (
        redirection_before(),
        carrier,
        program(),
        vec(argument(), 0..4),
        redirection(),
    )
        .prop_map(|(before, carrier, program, arguments, after)| {
            let mut text = format!("{before}{carrier}{program}");
            for argument in arguments {
                text.push(' ');
                text.push_str(&argument);
            }
            text + after
        });
    let builtin = select(
        &[
            "true",
            "false",
            ":",
            "[ -d / ]",
            "test -d /",
            "pwd",
            "cd /",
            "echo a",
        ][..],
    )
    .prop_map(str::to_owned);
    if depth == 0 {
        return prop_oneof![9 => simple, 1 => builtin].boxed();
    }
    let shell = select(&["sh -c ", "bash -c ", "sh -uc ", "bash -o pipefail -c "][..]);
    let nested = (shell, list(depth - 1))
        .prop_map(|(shell, text)| format!("{shell}{}", approvals::shell::rewrite::quote(&text)));
    prop_oneof![12 => simple, 2 => builtin, 2 => nested].boxed()
}

fn program() -> impl Strategy<Value = String> {
    let plain =
        select(&["alpha", "beta", "gamma", "x.y-z", "a_b", "find"][..]).prop_map(str::to_owned);
    let quoted = select(
        &[
            "'alpha'",
            "\"beta\"",
            "al\\pha",
            "\\alpha",
            "be''ta",
            "g\"am\"'ma'",
            "alph\"a\"",
        ][..],
    )
    .prop_map(str::to_owned);
    prop_oneof![6 => plain, 1 => quoted]
}

fn argument() -> impl Strategy<Value = String> {
    vec(part(), 1..4).prop_map(|parts| parts.concat())
}

fn part() -> impl Strategy<Value = String> {
    let fixed = select(
        &[
            "a",
            "b c",
            "-x",
            "--y=1",
            "2",
            "/etc/hostname",
            "A=1",
            "#",
            "a#b",
            "!",
            "@",
            "%1",
            "+",
            "=",
            ":",
            ",",
            "é",
            "日本",
            "]",
            "''",
            "\"\"",
            "\"a b\"",
            "'$x'",
            "'a\nb'",
            "\"a'b\"",
            "'a\"b'",
            "\\$x",
            "\\ ",
            "\\#",
            "\\'",
            "\\\"",
            "\\\\",
            "\\&",
            "\\;",
            "\\|",
            "\"\\$x\"",
            "\"\\\"\"",
            "\"\\\\\"",
            "\"\\`\"",
            "\"\\a\"",
            "\"a$\"",
            "\"$ a\"",
            "\"^a$|b$\"",
            "a$",
            "\"<(x)\"",
            "'`id`'",
            "\"a && b\"",
            "'a | b'",
            "\"# c\"",
            "-exec",
            "\\;",
            "'{}'",
        ][..],
    );
    let open = select(
        &[
            "*", "a?", "[ab]", "~", "{a,b}", "{}", "~/x", "a~", "}", "{1..3}", "/et*",
        ][..],
    );
    prop_oneof![8 => fixed, 1 => open].prop_map(str::to_owned)
}

fn redirection() -> impl Strategy<Value = &'static str> {
    select(
        &[
            "",
            "",
            "",
            "",
            "",
            " >/dev/null",
            ">/dev/null",
            " 2>/dev/null",
            " 2> /dev/null",
            " &>/dev/null",
            "&> /dev/null",
            " </dev/null",
            " 2>&1",
            " 1>&2",
            " >/dev/null 2>&1",
            " 2>& 1",
            " &>/dev/null 2>&1",
            " 2>&1 >/dev/null",
            " >\t/dev/null x",
            " >/dev/null&>/dev/null",
        ][..],
    )
}

fn redirection_before() -> impl Strategy<Value = &'static str> {
    select(
        &[
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "2>&1 ",
            ">/dev/null ",
            "</dev/null 2>/dev/null ",
        ][..],
    )
}
