//! Interpreters and script runners: which argument is the script (exec and approvals §10).

/// Programs whose arguments can be programs.
const INTERPRETERS: [&str; 30] = [
    "ash",
    "awk",
    "bash",
    "bun",
    "busybox",
    "cmd",
    "cscript",
    "dash",
    "deno",
    "fish",
    "gawk",
    "gsed",
    "ksh",
    "lua",
    "mawk",
    "nawk",
    "node",
    "nodejs",
    "perl",
    "php",
    "powershell",
    "pwsh",
    "pypy",
    "python",
    "ruby",
    "sed",
    "sh",
    "toybox",
    "wscript",
    "zsh",
];

/// Interpreters that are also installed with a version in their name.
const VERSIONED: [&str; 5] = ["node", "perl", "php", "python", "ruby"];

/// Programs that run one script of a language they compile on the way.
const SCRIPT_RUNNERS: [&str; 6] = ["esno", "jiti", "ts-node", "ts-node-esm", "tsx", "vite-node"];

const BUN_SUBCOMMANDS: [&str; 21] = [
    "add",
    "audit",
    "completions",
    "create",
    "exec",
    "help",
    "init",
    "install",
    "link",
    "outdated",
    "patch",
    "pm",
    "publish",
    "remove",
    "repl",
    "run",
    "test",
    "unlink",
    "update",
    "upgrade",
    "x",
];

const BUN_VALUES: [&str; 29] = [
    "--backend",
    "--bunfig",
    "--conditions",
    "--config",
    "--console-depth",
    "--cwd",
    "--define",
    "--elide-lines",
    "--env-file",
    "--extension-order",
    "--filter",
    "--hot",
    "--inspect",
    "--inspect-brk",
    "--inspect-wait",
    "--install",
    "--jsx-factory",
    "--jsx-fragment",
    "--jsx-import-source",
    "--loader",
    "--origin",
    "--port",
    "--preload",
    "--smol",
    "--tsconfig-override",
    "-c",
    "-e",
    "-p",
    "-r",
];

const DENO_VALUES: [&str; 24] = [
    "--cached-only",
    "--cert",
    "--config",
    "--env-file",
    "--ext",
    "--harmony-import-attributes",
    "--import-map",
    "--inspect",
    "--inspect-brk",
    "--inspect-wait",
    "--location",
    "--lock",
    "--log-level",
    "--no-check",
    "--node-modules-dir",
    "--preload",
    "--reload",
    "--seed",
    "--strace-ops",
    "--unstable-bare-node-builtins",
    "--v8-flags",
    "--watch",
    "--watch-exclude",
    "-L",
];

/// Options that make a runtime load more than its script or run elsewhere.
const BUN_UNBINDABLE: [&str; 8] = [
    "--bunfig",
    "--config",
    "--cwd",
    "--env-file",
    "--loader",
    "--preload",
    "--tsconfig-override",
    "-r",
];
const DENO_UNBINDABLE: [&str; 6] = [
    "--config",
    "--env-file",
    "--import-map",
    "--lock",
    "--node-modules-dir",
    "--preload",
];

/// Options of Node.js that name a file to load besides the script.
const NODE_FILES: [&str; 7] = [
    "--env-file",
    "--env-file-if-exists",
    "--experimental-loader",
    "--import",
    "--loader",
    "--require",
    "-r",
];

/// Whether the program of this normalised name runs scripts or programs given as text.
pub(super) fn is_script_runner(name: &str) -> bool {
    INTERPRETERS.contains(&name) || SCRIPT_RUNNERS.contains(&name) || is_versioned(name)
}

/// `python3.11`, `ruby3`, but not `python3.11.4`, which nobody installs under that name.
fn is_versioned(name: &str) -> bool {
    VERSIONED
        .iter()
        .filter_map(|stem| name.strip_prefix(stem))
        .any(|version| {
            let parts: Vec<&str> = version.split('.').collect();
            parts.len() <= 2 && parts.iter().all(|part| is_digits(part))
        })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether an option of the runtime reaches further than one file can be bound.
pub(super) fn has_unbindable_option(name: &str, words: &[String]) -> bool {
    let mut arguments = words.iter().skip(1);
    match name {
        "bun" => arguments.any(|word| BUN_UNBINDABLE.contains(&option_name(word).as_str())),
        "deno" => arguments.any(|word| DENO_UNBINDABLE.contains(&option_name(word).as_str())),
        "php" => arguments.any(|word| {
            let name = option_name(word);
            matches!(name.as_str(), "-c" | "--php-ini") || name.starts_with("-d")
        }),
        _ => false,
    }
}

fn option_name(word: &str) -> String {
    word.split_once('=')
        .map_or(word, |(name, _)| name)
        .to_lowercase()
}

/// Which of `words` is the script that the runtime of this normalised name runs. `is_file` says
/// whether a word names an existing file.
pub(super) fn script_position(
    name: &str,
    words: &[String],
    is_file: &dyn Fn(&str) -> bool,
) -> Option<usize> {
    if takes_script_first(name) && words.get(1).is_some_and(|word| is_operand(word)) {
        return Some(1);
    }
    match name {
        "bun" => bun_script(words, is_file),
        "deno" => deno_script(words, is_file),
        "ruby" if loads_more(words, &["-C", "-I", "-r", "-S", "--chdir", "--require"]) => {
            return None;
        }
        "perl" if loads_more(words, &["-I", "-M", "-m", "-S"]) => return None,
        _ => None,
    }
    .or_else(|| sole_file(name, words, is_file))
}

/// Whether the first argument is the script unless it is an option.
fn takes_script_first(name: &str) -> bool {
    let python = || {
        name.strip_prefix("python")
            .is_some_and(|version| version.is_empty() || version.split('.').all(is_digits))
    };
    matches!(name, "node" | "nodejs" | "perl" | "php" | "ruby") || python()
}

fn is_operand(word: &str) -> bool {
    !word.is_empty() && !word.starts_with('-')
}

/// Whether an option, also with its value attached, loads code or sends the interpreter elsewhere.
fn loads_more(words: &[String], options: &[&str]) -> bool {
    words
        .iter()
        .skip(1)
        .take_while(|word| *word != "--")
        .any(|word| options.iter().any(|option| starts_option(word, option)))
}

fn starts_option(word: &str, option: &str) -> bool {
    match word.strip_prefix(option) {
        Some("") => true,
        Some(rest) => !option.starts_with("--") || rest.starts_with('='),
        None => false,
    }
}

/// `bun run FILE`, or a first argument that looks like a path.
fn bun_script(words: &[String], is_file: &dyn Fn(&str) -> bool) -> Option<usize> {
    let position = first_operand(words, 1, &BUN_VALUES)?;
    match words.get(position)?.as_str() {
        "run" => {
            let script = first_operand(words, position + 1, &BUN_VALUES)?;
            is_file(words.get(script)?).then_some(script)
        }
        word if BUN_SUBCOMMANDS.contains(&word) => None,
        word => looks_like_path(word).then_some(position),
    }
}

/// `deno run FILE`.
fn deno_script(words: &[String], is_file: &dyn Fn(&str) -> bool) -> Option<usize> {
    if words.get(1)? != "run" {
        return None;
    }
    let script = first_operand(words, 2, &DENO_VALUES)?;
    is_file(words.get(script)?).then_some(script)
}

fn looks_like_path(word: &str) -> bool {
    word.starts_with('.')
        || word.contains(['/', '\\'])
        || word
            .rsplit_once('.')
            .is_some_and(|(stem, extension)| !stem.is_empty() && !extension.is_empty())
}

/// The first word from `start` on that is no option and no option's value.
fn first_operand(words: &[String], start: usize, values: &[&str]) -> Option<usize> {
    let mut position = start;
    loop {
        match words.get(position)?.as_str() {
            "-" => return None,
            "--" => return words.get(position + 1).map(|_| position + 1),
            word if !word.starts_with('-') => return Some(position),
            word => position += if values.contains(&word) { 2 } else { 1 },
        }
    }
}

/// The only argument that names an existing file, unless an option of Node.js names one.
fn sole_file(name: &str, words: &[String], is_file: &dyn Fn(&str) -> bool) -> Option<usize> {
    let is_node = matches!(name, "node" | "nodejs");
    let mut options = true;
    let mut files = Vec::new();
    for (position, word) in words.iter().enumerate().skip(1) {
        if options && word == "--" {
            options = false;
        } else if options && word == "-" {
            return None;
        } else if options && word.starts_with('-') {
            if is_node && NODE_FILES.contains(&option_name(word).as_str()) {
                let value = match word.split_once('=') {
                    Some((_, value)) => Some(value),
                    None => words.get(position + 1).map(String::as_str),
                };
                if value.is_some_and(is_file) {
                    return None;
                }
            }
        } else if is_file(word) {
            files.push(position);
        }
    }
    match files.as_slice() {
        [position] => Some(*position),
        _ => None,
    }
}
