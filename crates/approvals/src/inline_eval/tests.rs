use super::{find, is_interpreter};

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn found(argv: &[&str]) -> Option<String> {
    let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    find(&argv).map(|found| found.to_string())
}

#[test]
fn every_program_of_the_table_is_known_by_its_forms() {
    for (line, expected) in [
        ("python3 -c 1", "python3 -c"),
        ("/usr/bin/python3.11 -c 1", "python3.11 -c"),
        ("python3 -c1", "python3 -c"),
        ("python -Sc 1", "python -c"),
        ("python -BIc 1", "python -c"),
        ("pypy3 -uc 1", "pypy3 -c"),
        ("node -e 1", "node -e"),
        ("node -p 1", "node -p"),
        ("node --eval=1", "node --eval"),
        ("nodejs --print 1", "nodejs --print"),
        ("node20 -e1", "node20 -e"),
        ("bun -e 1", "bun -e"),
        ("deno eval 1", "deno eval"),
        ("awk BEGIN{} f", "awk inline program"),
        ("gawk -e BEGIN{}", "gawk -e"),
        ("gawk --source=BEGIN{}", "gawk --source"),
        ("awk -v x=1 -F : {print}", "awk inline program"),
        ("awk -- {print}", "awk inline program"),
        ("ruby -e 1", "ruby -e"),
        ("ruby -ne 1", "ruby -e"),
        ("ruby -W0e 1", "ruby -e"),
        ("perl -e 1", "perl -e"),
        ("perl -E 1", "perl -e"),
        ("perl -E1", "perl -e"),
        ("perl -ne 1", "perl -e"),
        ("perl -lanE 1", "perl -e"),
        ("perl -0777ne 1", "perl -e"),
        ("php -r 1", "php -r"),
        ("php -R 1", "php -R"),
        ("php -B1", "php -B"),
        ("R -e 1", "r -e"),
        ("Rscript -e 1", "rscript -e"),
        ("julia -E 1", "julia -E"),
        ("julia --print=1", "julia --print"),
        ("elixir --rpc-eval 1", "elixir --rpc-eval"),
        ("iex -e 1", "iex -e"),
        ("guile -c 1", "guile -c"),
        ("groovy -e1", "groovy -e"),
        ("scala-cli --execute-script 1", "scala-cli --execute-script"),
        ("clj --eval 1", "clj --eval"),
        ("raku -ne 1", "raku -e"),
        ("ghc -e 1", "ghc -e"),
        ("erl -run m f", "erl -run"),
        ("gdb -ex run", "gdb -ex"),
        ("gdb -eiex=run", "gdb -eiex"),
        ("gdb --eval-command=run", "gdb --eval-command"),
        ("expect -c 1", "expect -c"),
        ("lua5.4 -e 1", "lua5.4 -e"),
        ("osascript -e 1", "osascript -e"),
        ("find . -exec id ;", "find -exec"),
        ("find -- . -okdir id ;", "find -okdir"),
        ("make -f x", "make -f"),
        ("make -fx", "make -f"),
        ("gmake --eval=x", "gmake --eval"),
        ("make -E x", "make -E"),
        ("sed s/a/b/", "sed inline program"),
        ("sed -n p", "sed inline program"),
        ("sed -e p", "sed -e"),
        ("sed -es/a/b/", "sed -e"),
        ("sed --expression=p", "sed --expression"),
        ("gsed -E s/a/b/", "gsed inline program"),
        ("xargs echo", "xargs inline command"),
        ("xargs -n 1 -0 echo", "xargs inline command"),
        ("xargs -I{} echo", "xargs inline command"),
    ] {
        assert_eq!(
            found(&line.split(' ').collect::<Vec<_>>()).as_deref(),
            Some(expected),
            "{line}"
        );
    }
}

#[test]
fn scripts_and_other_programs_are_no_inline_code() {
    for line in [
        "python3 x.py",
        "python3 -m http.server",
        "python3 -- -c",
        "node x.js",
        "awk -f x.awk",
        "awk --file=x.awk f",
        "sed -f x.sed f",
        "groovy -encoding x y.groovy",
        "find . -name x",
        "make all",
        "xargs",
        "xargs -0",
        "r2 -e x",
        "echo -c",
        "mypython -c 1",
        "perl x.pl",
        "sh -c echo",
        "sh x.sh -c",
        "",
    ] {
        assert_eq!(find(&words(line)), None, "{line}");
    }
}

#[test]
fn whatever_only_starts_a_program_is_looked_through() {
    for argv in [
        &["env", "python3", "-c", "1"][..],
        &["env", "A=1", "python3", "-c", "1"],
        &["env", "-S", "A=1 python3 -c 1"],
        &["nice", "-n5", "timeout", "-k1", "5", "python3", "-c", "1"],
        &["command", "--", "python3", "-c", "1"],
        &["exec", "-a", "x", "python3", "-c", "1"],
        &["sudo", "-u", "bob", "python3", "-c", "1"],
        &["doas", "python3", "-c", "1"],
        &["setsid", "-w", "python3", "-c", "1"],
        &["time", "-o", "f", "python3", "-c", "1"],
        &["npx", "-y", "python3", "-c", "1"],
        &["watch", "python3 -c 1"],
        &["flock", "/tmp/l", "-c", "python3 -c 1"],
        &["sh", "-c", "python3 -c 1"],
        &["sh", "-lc", "python3 -c 1"],
        &["bash", "-lc", "python3 -c 1"],
        &["bash", "-ic", "python3 -c 1"],
        &["sudo", "sh", "-c", "python3 -c 1"],
        &["busybox", "sh", "-c", "python3 -c 1"],
        &["sh", "-c", "sh -c 'python3 -c 1'"],
        &["sh", "-c", "echo a && (FOO=1 python3 -c 1)"],
        &["sh", "-c", "if true; then python3 -c 1; fi"],
        &["sh", "-c", "echo \"$(python3 -c 1)\""],
        &["sh", "-c", "echo `python3 -c 1`"],
        &["sh", "-c", "x=1; 'python3' \\-c \"$x\" >f"],
        &["sh", "-c", "$0 \"$@\"", "python3", "-c", "1"],
        &["sh", "-c", "\"$@\"", "sh", "python3", "-c", "1"],
        &["sh", "-c", "exec \"$0\" \"${1}\" 1", "python3", "-c"],
        &["sh", "-c", "python3 $1 \"$2\"", "sh", "-c", "1"],
        &["sh", "-c", "sh -c \"$1\"", "x", "python3 -c 1"],
        &["bash", "-c", "eval python3 -c 1"],
    ] {
        assert_eq!(found(argv).as_deref(), Some("python3 -c"), "{argv:?}");
    }
}

#[test]
fn quoted_text_is_no_command() {
    for text in [
        "echo 'python3 -c 1' $HOME",
        "echo \"python3 -c\" # python3 -c 1",
        "echo \\$0 -c",
        "echo '$@'",
    ] {
        assert_eq!(
            found(&["sh", "-c", text, "python3", "-c", "1"]),
            None,
            "{text}"
        );
    }
}

#[test]
fn a_hostile_command_ends_the_search() {
    let sudos = vec!["sudo".to_owned(); 5_000];
    assert_eq!(find(&sudos), None);
    // Each of these would run the next one a thousand times over, which ends the patience.
    let text = "\"$@\";".repeat(1_000);
    let mut bomb: Vec<&str> = ["sh", "-c", &text, "x"].repeat(10);
    bomb.push("echo");
    assert_eq!(found(&bomb).as_deref(), Some("sh inline command"));
    let substitutions = "echo \"$(".repeat(20_000);
    assert_eq!(found(&["sh", "-c", &substitutions]), None);
}

#[test]
fn interpreters_are_known_with_their_version() {
    for name in [
        "python3.11",
        "/usr/bin/node-20",
        "perl5.36.0",
        "mawk",
        "R",
        "xargs",
        "busybox",
    ] {
        assert!(is_interpreter(name), "{name}");
    }
    for name in ["echo", "r2", "nodeps", "mypython", "sh"] {
        assert!(!is_interpreter(name), "{name}");
    }
}
