//! `system.run.prepare`: turns a command into a plan that an approval can be bound to
//! (exec and approvals §10).

use approvals::command::{CommandLine, ShellUse, command_text};
use approvals::plan::{DirectoryIdentity, FileOperand, PolicySnapshot, SystemRunPlan};
use approvals::policy::{Ask, Security};
use approvals::usage::{Coverage, InlineCode};
use serde::Serialize;

use crate::binding::{
    BindingRefusal, CwdSnapshot, bind_operand, pin_executable, resolve_unchecked,
};
use crate::environment::Overrides;
use crate::host::Host;
use crate::request::{PrepareRequest, RequestError};

/// The policy that a command is prepared under.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PreparePolicy {
    /// How much may run.
    pub security: Security,
    /// When a human is asked.
    pub ask: Ask,
    /// Whether this node wants inline code to be approved.
    pub strict_inline_eval: bool,
    /// What the approvals document says for the agent.
    pub snapshot: PolicySnapshot,
}

/// The answer to `system.run.prepare`, serialised as it goes out.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// What an approval would be for.
    pub plan: SystemRunPlan,
    exec_policy: ExecPolicy,
    allow_always_coverage: Coverage,
    /// Which directory the command would run in, to be remembered with the plan (D13).
    #[serde(skip)]
    pub cwd: DirectoryIdentity,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct ExecPolicy {
    security: Security,
    ask: Ask,
}

/// Prepares a command. Looks at the disk, and reads all of the file that the command would run; not
/// for a thread that must not wait.
///
/// # Errors
/// A command that no approval can be bound to, or an environment that no command may get.
pub fn prepare(
    request: &PrepareRequest,
    policy: &PreparePolicy,
    host: &Host<'_>,
) -> Result<Prepared, RequestError> {
    let bound = needs_binding(request, policy);
    let (cwd, argv, operand) = if bound {
        bind(&request.command, request.cwd.as_deref(), host).map_err(|refusal| match refusal {
            BindingRefusal::Unbindable => RequestError::UnsupportedShape,
            refusal => refusal.into(),
        })?
    } else {
        let cwd = resolve_unchecked(host, request.cwd.as_deref())?;
        (cwd, request.command.argv().to_vec(), None)
    };
    Overrides::parse(&request.environment)?;
    let command_text = command_text(&argv);
    let preview = request
        .command
        .preview()
        .filter(|preview| *preview != command_text);
    let path = cwd.path().to_str().ok_or(BindingRefusal::CwdMissing)?;
    let allow_always_coverage = if bound {
        let is_strict = policy.strict_inline_eval || request.strict_inline_eval;
        coverage(&argv, &request.command, host, path, is_strict)
    } else {
        Coverage::default()
    };
    Ok(Prepared {
        plan: SystemRunPlan {
            cwd: Some(path.to_owned()),
            command_preview: preview.map(str::to_owned),
            agent_id: request.agent_id.clone(),
            session_key: request.session_key.clone(),
            mutable_file_operand: operand,
            policy_snapshot: Some(policy.snapshot.clone()),
            command_text,
            argv,
        },
        exec_policy: ExecPolicy {
            security: policy.security,
            ask: policy.ask,
        },
        allow_always_coverage,
        cwd: cwd.identity(),
    })
}

/// What an "allow always" would remember of `command`, pinned as `argv`, in the canonical directory
/// `cwd`.
fn coverage(
    argv: &[String],
    command: &CommandLine,
    host: &Host<'_>,
    cwd: &str,
    is_strict: bool,
) -> Coverage {
    let pinned = CommandLine::new(argv.to_vec(), None);
    let pinned = match (&pinned, command.payload()) {
        // A payload that the sender vouched for shows only in the command itself.
        (_, Some(_)) | (Err(_), None) => command,
        (Ok(pinned), None) => pinned,
    };
    let inline_code = if is_strict {
        InlineCode::Strict
    } else {
        InlineCode::Unchecked
    };
    Coverage::of(&host.analyse(pinned, Some(cwd)), cwd, inline_code)
}

/// A plan that nobody will ever be asked about is not bound to anything.
fn needs_binding(request: &PrepareRequest, policy: &PreparePolicy) -> bool {
    let Some((security, ask)) = request.gateway_policy else {
        return true;
    };
    policy.security.min(security) != Security::Full
        || policy.ask.max(ask) != Ask::Off
        || policy.strict_inline_eval
        || request.strict_inline_eval
}

type Bound = (CwdSnapshot, Vec<String>, Option<FileOperand>);

fn bind(
    command: &CommandLine,
    cwd: Option<&str>,
    host: &Host<'_>,
) -> Result<Bound, BindingRefusal> {
    if *command.shell() == ShellUse::Opaque {
        return Err(BindingRefusal::Unbindable);
    }
    let cwd = CwdSnapshot::capture(host, cwd)?;
    let argv = pin_executable(command, host, cwd.path())?;
    let operand = bind_operand(&argv, command, host, cwd.path())?;
    Ok((cwd, argv, operand))
}

#[cfg(test)]
mod tests {
    use approvals::allowlist::cwd_argv_binding;
    use nix::unistd::Uid;
    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::host::scene::{Scene, words};

    const SHAPE: &str = "SYSTEM_RUN_DENIED: approval cannot safely bind this interpreter/runtime command\n\
         No approval request was created for this attempt; this is not a user denial. Retry a \
         supported single executable with an absolute path through the normal approval flow. This \
         node approval path cannot bind script/interpreter payloads nested in its shell wrapper.";

    fn policy(security: Security, ask: Ask) -> PreparePolicy {
        let snapshot = PolicySnapshot::new(security, ask, Security::Deny, false, Vec::new());
        PreparePolicy {
            security,
            ask,
            strict_inline_eval: false,
            snapshot,
        }
    }

    fn answer(scene: &Scene, params: &Value) -> Result<Value, String> {
        let policy = policy(Security::Full, Ask::Off);
        PrepareRequest::parse(Some(&params.to_string()))
            .and_then(|request| prepare(&request, &policy, &scene.host()))
            .map(|prepared| serde_json::to_value(prepared).unwrap())
            .map_err(|refusal| refusal.to_string())
    }

    fn plan(scene: &Scene, line: &str) -> Result<Value, String> {
        answer(scene, &json!({"command": words(line)})).map(|mut answer| answer["plan"].take())
    }

    /// Everything is the user's own in a scene; of the system only root's user owns anything.
    fn owns_the_system() -> bool {
        Uid::current().is_root()
    }

    #[test]
    fn a_direct_command_is_pinned_to_its_real_path() {
        let scene = Scene::new();
        scene.link("bin/alias", "/bin/echo");
        let echo = scene.real("echo");
        for token in ["/bin/echo", "echo", "alias"] {
            let params = json!({
                "command": [token, "hi there"], "cwd": ".", "agentId": " main ", "sessionKey": "s",
            });
            let answer = answer(&scene, &params).unwrap();
            let cwd = scene.path("");
            let cwd = cwd.trim_end_matches('/');
            let plan = &answer["plan"];
            assert_eq!(plan["argv"], json!([echo, "hi there"]), "{token}");
            assert_eq!(plan["cwd"], cwd, "{token}");
            assert_eq!(
                plan["commandText"],
                format!("{echo} \"hi there\""),
                "{token}"
            );
            assert_eq!(plan["commandPreview"], Value::Null, "{token}");
            assert_eq!(plan["agentId"], "main", "{token}");
            assert_eq!(plan["sessionKey"], "s", "{token}");
            assert_eq!(
                plan["policySnapshot"],
                json!({"security": "full", "ask": "off", "askFallback": "deny",
                    "autoAllowSkills": false, "allowlistRules": []})
            );
            let operand = plan
                .get("mutableFileOperand")
                .map(|operand| &operand["argvIndex"]);
            assert_eq!(operand, owns_the_system().then_some(&json!(0)), "{token}");
            let pattern = cwd_argv_binding(cwd, &["".to_owned(), "hi there".to_owned()]);
            assert_eq!(
                answer["execPolicy"],
                json!({"security": "full", "ask": "off"})
            );
            assert_eq!(
                answer["allowAlwaysCoverage"],
                json!({"complete": true, "patterns": [{"pattern": echo, "argPattern": pattern}]})
            );
        }
    }

    #[test]
    fn wrapped_commands_and_payloads_stay_as_they_are() {
        let scene = Scene::new();
        for (argv, preview) in [
            (json!(["env", "sh", "-c", "echo SAFE"]), json!("echo SAFE")),
            (json!(["/bin/sh", "-c", "echo a"]), json!("echo a")),
            (json!(["/bin/sh", "-c", "echo a", "b"]), json!(null)),
            (json!(["nice", "echo", "a"]), json!(null)),
        ] {
            let answer = answer(&scene, &json!({"command": argv})).unwrap();
            assert_eq!(answer["plan"]["argv"], argv);
            assert_eq!(answer["plan"]["commandPreview"], preview, "{argv}");
            assert_eq!(answer["plan"].get("mutableFileOperand"), None, "{argv}");
        }
        let login = json!({"command": ["/bin/sh", "-lc", "echo a"], "rawCommand": "echo a"});
        assert_eq!(
            answer(&scene, &login).unwrap()["plan"]["commandPreview"],
            "echo a"
        );
        let unvouched = json!({"command": ["/bin/sh", "-lc", "echo a"]});
        assert_eq!(answer(&scene, &unvouched).unwrap_err(), SHAPE);
        for (payload, complete, patterns) in [
            ("echo a", true, 1),
            ("echo a\necho a\ncat b", true, 2),
            ("echo *", false, 0),
            ("FOO=1 echo a", false, 0),
            ("echo $HOME", false, 0),
        ] {
            let request = json!({"command": ["/bin/sh", "-c", payload]});
            let coverage = answer(&scene, &request).unwrap()["allowAlwaysCoverage"].take();
            assert_eq!(coverage["complete"], complete, "{payload}");
            assert_eq!(
                coverage["patterns"].as_array().unwrap().len(),
                patterns,
                "{payload}"
            );
        }
    }

    #[test]
    fn the_file_that_runs_is_bound_by_its_content() {
        let scene = Scene::new();
        scene
            .program("run.sh")
            .write("run.ts", "1")
            .write("p.py", "1")
            .link("link.sh", "run.sh");
        for name in ["bun", "deno", "tsx", "bunx", "pnpm", "python3.99"] {
            scene.program(&format!("bin/{name}"));
        }
        for (line, index, name) in [
            ("./run.sh", 0, "run.sh"),
            ("/bin/sh ./run.sh", 1, "run.sh"),
            ("/bin/sh -eu -- ./link.sh a", 3, "run.sh"),
            ("nice -n 5 sh run.sh", 4, "run.sh"),
            ("env ./run.sh", 1, "run.sh"),
            ("env A=1 sh ./run.sh", 3, "run.sh"),
            ("env -S sh ./run.sh", 3, "run.sh"),
            ("python3.99 ./p.py x", 1, "p.py"),
            ("python3.99 -u ./p.py x", 2, "p.py"),
            ("bun run ./run.ts", 2, "run.ts"),
            ("bun ./run.ts", 1, "run.ts"),
            ("deno run -A --allow-read -- ./run.ts", 5, "run.ts"),
            ("bunx tsx ./run.ts", 2, "run.ts"),
            ("pnpm dlx tsx ./run.ts", 3, "run.ts"),
            ("tsx --watch ./run.ts", 2, "run.ts"),
        ] {
            let plan = plan(&scene, line).unwrap();
            let operand = &plan["mutableFileOperand"];
            assert_eq!(operand["argvIndex"], index, "{line}");
            assert_eq!(operand["path"], scene.path(name), "{line}");
            let content = std::fs::read(scene.path(name)).unwrap();
            let digest = Sha256::digest(content);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(operand["sha256"], hex, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_bound_is_refused() {
        let scene = Scene::new();
        scene
            .program("run.sh")
            .folder("d")
            .write("safe.pl", "1")
            .write("a.js", "1");
        scene
            .write("b.js", "1")
            .write("rc", "x")
            .write("p.py", "1")
            .write("a.php", "x");
        for name in [
            "perl", "node", "php", "bun", "deno", "tsx", "busybox", "pnpm", "ruby",
        ] {
            scene.program(&format!("bin/{name}"));
        }
        let denied = |text: &str| format!("SYSTEM_RUN_DENIED: approval {text}");
        let existing = denied("requires an existing script operand");
        let startup = denied("cannot safely bind shell startup files");
        let runtime = denied("cannot safely bind runtime code-loading or cwd options");
        let elsewhere = denied("cannot safely bind dispatch cwd options");
        for (line, refusal) in [
            ("sh ./nope.sh", existing.as_str()),
            ("node nope.js", &existing),
            ("env -S sh\u{1f}./run.sh", SHAPE),
            (
                "sh ./d",
                "SYSTEM_RUN_DENIED: approval requires a file script operand",
            ),
            ("bash --rcfile ./rc ./run.sh", &startup),
            ("sh -s", &startup),
            ("sh -i ./run.sh", &startup),
            (
                "env BASH_ENV=rc sh ./run.sh",
                "SYSTEM_RUN_DENIED: approval cannot safely bind shell startup environment",
            ),
            ("env -C / echo", &elsewhere),
            ("nice env -iC/ echo", &elsewhere),
            ("php -d x=y ./a.php", &runtime),
            ("php -c ini ./a.php", &runtime),
            ("bun --preload ./a.js ./b.js", &runtime),
            ("deno run --import-map x ./a.js", &runtime),
            ("perl -Ilib ./safe.pl", SHAPE),
            ("perl -MPreload ./safe.pl", SHAPE),
            ("ruby --require=x ./safe.pl", SHAPE),
            ("node --import=./a.js ./b.js", SHAPE),
            ("node -r ./a.js ./b.js", SHAPE),
            ("node --check ./a.js ./b.js", SHAPE),
            ("bun run dev", SHAPE),
            ("deno eval 1", SHAPE),
            ("tsx --eval 1", SHAPE),
            ("node", SHAPE),
            ("pnpm dlx --unknown tsx ./a.js", SHAPE),
            ("busybox awk BEGIN{}", SHAPE),
            ("busybox sh ./run.sh", SHAPE),
            ("env ./nope", SHAPE),
            ("csh ./run.sh", SHAPE),
            ("bash -lc ls", SHAPE),
            (
                "/nowhere/echo",
                "SYSTEM_RUN_DENIED: approval requires a stable executable path",
            ),
            (
                "nosuchprogram",
                "SYSTEM_RUN_DENIED: approval requires a stable executable path",
            ),
        ] {
            let argv: Vec<_> = words(line)
                .iter()
                .map(|word| word.replace('\u{1f}', " "))
                .collect();
            let found = answer(&scene, &json!({"command": argv})).unwrap_err();
            let expected = if line.contains('\u{1f}') {
                existing.as_str()
            } else {
                refusal
            };
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn a_payload_that_runs_files_is_refused() {
        let scene = Scene::new();
        scene.program("run.sh").write("p.py", "1");
        let absolute = scene.path("run.sh");
        for (payload, is_bound) in [
            ("echo a", true),
            ("echo 'a  b' \"c\"", true),
            ("nosuchprogram", true),
            ("ls -la", true),
            ("echo 'open", true),
            ("# nothing", true),
            ("echo a | cat", false),
            ("echo 'a;b'", false),
            ("echo a > x", false),
            (". ./x", false),
            ("source x", false),
            ("./run.sh", false),
            ("run.sh", false),
            (&absolute, false),
            ("python3 ./p.py", false),
            ("python3 -c 1", false),
            ("sh ./run.sh", false),
            ("nice ./run.sh", false),
            ("./nope", false),
            ("sed -n 1p", false),
        ] {
            let found = answer(&scene, &json!({"command": ["sh", "-c", payload]}));
            match is_bound {
                true => assert_eq!(found.unwrap()["plan"]["commandPreview"], payload),
                false => assert_eq!(found.unwrap_err(), SHAPE, "{payload}"),
            }
        }
    }

    #[test]
    fn a_shell_that_would_read_a_file_from_the_environment_is_refused() {
        let scene = Scene::with_variables(&[("BASH_ENV", "/etc/profile")]);
        scene.program("run.sh");
        let refusal = "SYSTEM_RUN_DENIED: approval cannot safely bind shell startup environment";
        assert_eq!(plan(&scene, "sh ./run.sh").unwrap_err(), refusal);
        assert!(plan(&scene, "./run.sh").is_ok());
    }

    #[test]
    fn the_directory_must_be_there_and_be_itself() {
        let scene = Scene::new();
        scene.write("f", "x").folder("d/sub").link("dlink", "d");
        for (cwd, refusal) in [
            (
                "none",
                "SYSTEM_RUN_DENIED: approval requires an existing canonical cwd",
            ),
            (
                "f",
                "SYSTEM_RUN_DENIED: approval requires cwd to be a directory",
            ),
            (
                "dlink",
                "SYSTEM_RUN_DENIED: approval requires canonical cwd (no symlink path components)",
            ),
            (
                "dlink/sub",
                "SYSTEM_RUN_DENIED: approval requires canonical cwd (no symlink path components)",
            ),
        ] {
            let params = json!({"command": ["echo"], "cwd": scene.path(cwd)});
            assert_eq!(answer(&scene, &params).unwrap_err(), refusal, "{cwd}");
        }
        let beside = answer(&scene, &json!({"command": ["echo"], "cwd": "d/sub/.."})).unwrap();
        assert_eq!(beside["plan"]["cwd"], scene.path("d"));
    }

    #[test]
    fn nothing_is_bound_where_nobody_would_be_asked() {
        let scene = Scene::new();
        scene.folder("d").link("dlink", "d");
        let params = |security: Value, ask: Value, strict: bool| {
            json!({
                "command": ["python3", "-c", "print(1)"], "cwd": scene.path("dlink"),
                "security": security, "ask": ask, "strictInlineEval": strict,
            })
        };
        let answer = answer(&scene, &params(json!("full"), json!("off"), false)).unwrap();
        assert_eq!(answer["plan"]["argv"], json!(["python3", "-c", "print(1)"]));
        assert_eq!(answer["plan"]["cwd"], scene.path("d"));
        assert_eq!(
            answer["allowAlwaysCoverage"],
            json!({"complete": false, "patterns": []})
        );
        for params in [
            params(json!("full"), json!("on-miss"), false),
            params(json!("allowlist"), json!("off"), false),
            params(json!("full"), json!(null), false),
            params(json!("none"), json!("off"), false),
            params(json!("full"), json!("off"), true),
        ] {
            let refusal = "SYSTEM_RUN_DENIED: approval requires canonical cwd (no symlink path \
                           components)";
            assert_eq!(
                self::answer(&scene, &params).unwrap_err(),
                refusal,
                "{params}"
            );
        }
        let request = params(json!("full"), json!("off"), false).to_string();
        let request = PrepareRequest::parse(Some(&request)).unwrap();
        let strict = PreparePolicy {
            strict_inline_eval: true,
            ..policy(Security::Full, Ask::Off)
        };
        let asking = policy(Security::Full, Ask::Always);
        let listing = policy(Security::Allowlist, Ask::Off);
        for policy in [strict, asking, listing] {
            assert!(
                prepare(&request, &policy, &scene.host()).is_err(),
                "{policy:?}"
            );
        }
        let missing = json!({
            "command": ["echo"], "cwd": scene.path("none"), "security": "full", "ask": "off",
        });
        assert_eq!(
            self::answer(&scene, &missing).unwrap_err(),
            "SYSTEM_RUN_DENIED: working directory does not exist or is inaccessible"
        );
    }

    #[test]
    fn the_environment_is_refused_after_everything_else() {
        let scene = Scene::new();
        let rejected = "SYSTEM_RUN_DENIED: environment override rejected (blocked override keys: \
                        LD_PRELOAD)";
        let params = |command: &str| json!({"command": [command], "env": {"LD_PRELOAD": "x"}});
        assert_eq!(answer(&scene, &params("echo")).unwrap_err(), rejected);
        assert_eq!(
            answer(&scene, &params("nosuchprogram")).unwrap_err(),
            "SYSTEM_RUN_DENIED: approval requires a stable executable path"
        );
    }

    #[test]
    fn only_commands_that_their_arguments_bind_are_remembered() {
        let scene = Scene::new();
        scene
            .program("run.sh")
            .write("p.py", "1")
            .program("bin/python3.99");
        for name in ["bin/bunx", "bin/tool", "bin/awk-5.1", "bin/bun"] {
            scene.program(name);
        }
        let at = |name: &str| Some(scene.path(name));
        for (line, pattern, is_complete) in [
            ("./run.sh a", at("run.sh"), true),
            ("sh ./run.sh a", at("run.sh"), false),
            ("nice tool", at("bin/tool"), true),
            ("bunx tool", at("bin/tool"), true),
            ("bunx nosuchprogram", None, false),
            ("python3.99 ./p.py", None, false),
            ("awk-5.1 x", None, false),
            ("bun ./p.py", None, false),
            ("find .", None, false),
            ("env A=1 tool", None, false),
            ("sh", None, false),
        ] {
            let coverage =
                answer(&scene, &json!({"command": words(line)})).unwrap()["allowAlwaysCoverage"]
                    .take();
            assert_eq!(coverage["complete"], is_complete, "{line}");
            let found = coverage["patterns"].get(0).map(|found| &found["pattern"]);
            assert_eq!(found, pattern.map(Value::from).as_ref(), "{line}");
        }
    }
}
