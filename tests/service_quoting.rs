//! What systemd makes of the words that a unit is written with: it runs them, and says which
//! arguments arrived.

#![cfg(test)]

mod common;

use common::sandbox::Sandbox;
use service::definition::Definition;
use service::unit::{Scope, SecretSource, render};

const NAMES: usize = 1000;
/// Units that share the names: few enough to be quick, and each line bearably long.
const UNITS: usize = 10;

/// What display names are made of here: everything that means something to systemd, to shells or
/// to XML, and letters of all sizes. Only line breaks and NUL cannot be carried.
const ALPHABET: [&str; 44] = [
    " ",
    "  ",
    "\t",
    "\"",
    "'",
    "\\",
    "%",
    "%%",
    "%h",
    "%n",
    "$",
    "$$",
    "$HOME",
    "${HOME}",
    "${",
    "}",
    ";",
    "#",
    "=",
    "-",
    "--",
    "@",
    "!",
    ":",
    "+",
    "|",
    "&",
    "<",
    ">",
    "*",
    "?",
    "~",
    "`",
    "\\n",
    "\\x41",
    "\u{1}",
    "\u{1b}[31m",
    "\u{7f}",
    "a",
    "Z9",
    "é",
    "名",
    "🦀",
    "\u{a0}",
];

fn random_name() -> String {
    let mut bytes = [0; 13];
    getrandom::fill(&mut bytes).unwrap();
    let [length, pieces @ ..] = bytes;
    pieces
        .iter()
        .take(usize::from(length) % (pieces.len() + 1))
        .map(|&piece| ALPHABET[usize::from(piece) % ALPHABET.len()])
        .collect()
}

#[tokio::test]
async fn systemd_passes_a_thousand_random_names_as_they_were_meant() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let mut names: Vec<String> = (0..NAMES).map(|_| random_name()).collect();
    // Each piece at each end too.
    names.extend(ALPHABET.map(str::to_owned));
    names.push(String::new());
    let recorder = "#!/bin/sh\nshift\nprintf '%s\\0' \"$@\" > \"$RECORD\"\n";
    machine
        .shell(&format!(
            "mkdir -p .config/systemd/user 'a $b 50%'; cat > 'a $b 50%/record' <<'EOF'\n{recorder}EOF\n\
             chmod 755 'a $b 50%/record'"
        ))
        .await;
    for (number, names) in names.chunks(names.len().div_ceil(UNITS)).enumerate() {
        let record = format!("/home/tester/record \"{number}\" $x 50%");
        let definition = Definition {
            program: "/home/tester/a $b 50%/record".into(),
            run_arguments: names.to_vec(),
            environment: vec![("RECORD".to_owned(), record.clone())],
        };
        let secrets = SecretSource::EnvironmentFile("/home/tester/none 50%".into());
        let unit = render(Scope::User, &definition, &secrets).unwrap();
        // The recorder tells nobody that it is ready, and ends.
        let unit = unit
            .replace("Type=notify\nNotifyAccess=main\n", "Type=oneshot\n")
            .replace("Restart=always\n", "")
            .replace("WatchdogSec=60\n", "");
        let file = format!(".config/systemd/user/record-{number}.service");
        machine
            .shell(&format!(
                "cat > {file} <<'END OF UNIT'\n{unit}END OF UNIT\n"
            ))
            .await;
        let verified = machine
            .user(&["systemd-analyze", "verify", "--man=no", "--user", &file])
            .await;
        assert_eq!((verified.stderr.as_str(), verified.code), ("", 0));
        let line =
            format!("systemctl --user daemon-reload; systemctl --user start record-{number}");
        machine.shell(&line).await;
        let recorded = machine.user(&["cat", &record]).await.stdout;
        let arrived: Vec<&str> = recorded
            .strip_suffix('\0')
            .unwrap_or(&recorded)
            .split('\0')
            .collect();
        assert_eq!(arrived, names, "unit {number}");
    }
}
