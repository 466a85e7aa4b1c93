//! One node with its gateway and its scratch folder, in which cases run one after the other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway::{Gateway, GatewayHandle, GatewayOptions, Injection, NodeView};
use serde_json::{Value, json};

use super::comparison::differences;
use super::placeholders::Placeholders;
use super::{Case, FileAction, FollowUp, Params, Step};
use crate::common::home::{Account, Home};
use crate::common::invoke::{self, exec_event};
use crate::common::node::Node;

/// Longest wait for the answer to one invoke; the slowest case takes about a second.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// Longest wait for an event that follows its result.
const EVENT_DEADLINE: Duration = Duration::from_secs(5);

pub(crate) struct World {
    home: Home,
    gateway: GatewayHandle,
    node: Node,
    view: NodeView,
    placeholders: Placeholders,
    /// Exec events of this node that belong to invokes of the past.
    events_seen: usize,
}

impl World {
    /// Starts a node with this configuration.
    pub(crate) async fn start(config: &Value, account: Account) -> Self {
        let home = Home::of(account);
        let base = home.folder("base");
        let program = [
            "/usr/bin/node",
            "/usr/local/bin/node",
            "/bin/true",
            "/usr/bin/true",
        ];
        let program = program
            .iter()
            .find(|path| Path::new(path).exists())
            .unwrap();
        std::os::unix::fs::symlink(program, base.join("node")).unwrap();
        let scratch = home.folder("scratch");
        let search_path = format!(
            "{0}/bin:{1}:/usr/bin:/bin:/usr/sbin:/sbin",
            scratch.display(),
            base.display()
        );
        let placeholders = Placeholders {
            scratch,
            home: home.path().to_owned(),
            working_directory: home.folder("cwd"),
            base,
            root: home.path().to_owned(),
            search_path,
            ..Placeholders::default()
        };
        home.configure(&placeholders.fill(config));
        let options = GatewayOptions {
            skill_bins: vec!["skilltool".to_owned()],
            ..GatewayOptions::default()
        };
        let gateway = Gateway::start(options).await.unwrap();
        let (node, view) = admit(&home, &gateway, &placeholders).await;
        Self {
            home,
            gateway,
            node,
            view,
            placeholders,
            events_seen: 0,
        }
    }

    /// How the node fails a case; empty when it passes.
    pub(crate) async fn run(&mut self, case: &Case) -> Vec<String> {
        if !self.node.is_running() {
            println!("the node died before {}; it wrote:\n{}", case.id, self.node);
            (self.node, self.view) = admit(&self.home, &self.gateway, &self.placeholders).await;
            self.events_seen = 0;
        }
        match self.try_case(case).await {
            Ok(differences) => differences,
            Err(reason) => vec![reason],
        }
    }

    async fn try_case(&mut self, case: &Case) -> Result<Vec<String>, String> {
        let input = &case.input;
        self.placeholders.saved.clear();
        self.empty_scratch();
        for action in &input.setup {
            self.act(action);
        }
        self.set_approvals(&input.approvals()).await?;
        for step in &input.prelude {
            match step {
                Step::File(action) => self.act(action),
                Step::SetApprovals { document } => self.set_approvals(document).await?,
                Step::Invoke {
                    invoke,
                    params,
                    save_as,
                } => {
                    let answer = self.invoke(invoke, Params::Structured(params), 0).await?;
                    let plan = answer["payload"]["plan"].clone();
                    if !plan.is_object() {
                        return Err(format!("the prelude got {answer}"));
                    }
                    self.placeholders.saved.insert(save_as.clone(), plan);
                }
            }
        }
        let expected = case.expect(self.home.account().uid.is_root());
        let mut found = self
            .expect(&input.command, input.params(), expected)
            .await?;
        let mut expected_then = case.expect_then.iter();
        for (index, follow_up) in input.then.iter().enumerate() {
            let expected = expected_then
                .next()
                .ok_or("a follow-up without expectation")?;
            let differences =
                match follow_up {
                    FollowUp::GetApprovals { .. } => {
                        let params = json!({});
                        let answer = self
                            .invoke("system.execApprovals.get", Params::Structured(&params), 0)
                            .await?;
                        differences(&self.placeholders.fill(expected), &answer["payload"])
                    }
                    FollowUp::Invoke {
                        invoke,
                        params,
                        expect,
                    } => {
                        let params = Params::Structured(params);
                        let mut found = self.expect(invoke, params, expected).await?;
                        found.extend(differences(expect, expected).iter().map(|difference| {
                            format!("the case contradicts itself: {difference}")
                        }));
                        found
                    }
                };
            found.extend(
                differences
                    .iter()
                    .map(|text| format!("then {index}: {text}")),
            );
        }
        Ok(found)
    }

    /// Invokes, and compares what comes with what is expected.
    async fn expect(
        &mut self,
        command: &str,
        params: Params<'_>,
        expected: &Value,
    ) -> Result<Vec<String>, String> {
        let mut expected = self.placeholders.fill(expected);
        let events = expected
            .get("events")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        let actual = self.invoke(command, params, events).await?;
        let end = expected
            .as_object_mut()
            .and_then(|members| members.remove("stdoutEndsWith"));
        let mut found = differences(&expected, &actual);
        if let Some(end) = end.as_ref().and_then(Value::as_str) {
            let stdout = actual["payload"]["stdout"].as_str().unwrap_or_default();
            if !stdout.ends_with(end) {
                found.push(format!(".payload.stdout does not end with {end:?}"));
            }
        }
        Ok(found)
    }

    /// What the node makes of an invoke, in the shape in which cases expect it.
    async fn invoke(
        &mut self,
        command: &str,
        params: Params<'_>,
        events_expected: usize,
    ) -> Result<Value, String> {
        let connection = self.view.connection;
        let params_json = match params {
            Params::Structured(params) => invoke::params(&self.placeholders.fill(params)),
            Params::Raw(raw) => raw.clone(),
        };
        let id = uuid::Uuid::new_v4().to_string();
        let request = json!({
            "id": id,
            "nodeId": self.view.node_id,
            "command": command,
            "paramsJSON": params_json,
            "timeoutMs": 30_000,
        });
        let injection = Injection::Event("node.invoke.request".to_owned(), request);
        if !self
            .gateway
            .inject(connection, injection)
            .await
            .map_err(|error| error.to_string())?
        {
            return Err("the node is not connected".to_owned());
        }
        let result = self.gateway.wait_for(ANSWER_DEADLINE, move |snapshot| {
            let is_answer = |result: &&Value| result["id"].as_str() == Some(id.as_str());
            snapshot.results().rev().find(is_answer).cloned()
        });
        let result = result
            .await
            .map_err(|error| format!("no answer to {command}: {error}"))?;
        let events = self.events(events_expected).await?;
        Ok(answer(&result, events))
    }

    /// The exec events since the last invoke; waits a moment for as many as are expected.
    async fn events(&mut self, expected: usize) -> Result<Vec<Value>, String> {
        let (connection, seen) = (self.view.connection, self.events_seen);
        let since = move |snapshot: &gateway::Snapshot| -> Vec<Value> {
            snapshot
                .records()
                .filter_map(|record| exec_event(record, connection))
                .skip(seen)
                .collect()
        };
        let enough = self.gateway.wait_for(EVENT_DEADLINE, move |snapshot| {
            let events = since(snapshot);
            (events.len() >= expected).then_some(events)
        });
        let events = match enough.await {
            Ok(events) => events,
            Err(_) => self
                .gateway
                .inspect(since)
                .await
                .map_err(|error| error.to_string())?,
        };
        self.events_seen += events.len();
        Ok(events)
    }

    async fn set_approvals(&mut self, document: &Value) -> Result<(), String> {
        let nothing = json!({});
        let current = self
            .invoke("system.execApprovals.get", Params::Structured(&nothing), 0)
            .await?;
        let set = json!({ "file": document, "baseHash": current["payload"]["hash"] });
        let answer = self
            .invoke("system.execApprovals.set", Params::Structured(&set), 0)
            .await?;
        let hash = answer["payload"]["hash"].as_str();
        self.placeholders.hash = hash
            .ok_or_else(|| format!("approvals were not set: {answer}"))?
            .to_owned();
        Ok(())
    }

    fn empty_scratch(&self) {
        for entry in fs::read_dir(&self.placeholders.scratch).unwrap() {
            remove(&entry.unwrap().path());
        }
    }

    fn act(&self, action: &FileAction) {
        let path = |text: &String| PathBuf::from(self.placeholders.fill_text(text));
        match action {
            FileAction::Write {
                write,
                content,
                mode,
            } => {
                let file = path(write);
                self.make_folder(file.parent().unwrap());
                fs::write(&file, self.placeholders.fill_text(content)).unwrap();
                if let Some(mode) = mode {
                    let mode = u32::from_str_radix(mode, 8).unwrap();
                    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
                }
                self.home.give_away(&file);
            }
            FileAction::MakeFolder { mkdir } => self.make_folder(&path(mkdir)),
            FileAction::Link { symlink, to } => {
                let link = path(symlink);
                self.make_folder(link.parent().unwrap());
                std::os::unix::fs::symlink(path(to), &link).unwrap();
                self.home.give_away(&link);
            }
            FileAction::Remove { rm } => remove(&path(rm)),
        }
    }

    fn make_folder(&self, folder: &Path) {
        if folder.exists() {
            return;
        }
        self.make_folder(folder.parent().unwrap());
        fs::create_dir(folder).unwrap();
        self.home.give_away(folder);
    }
}

/// Starts a node in `home` and has it admitted.
async fn admit(
    home: &Home,
    gateway: &GatewayHandle,
    placeholders: &Placeholders,
) -> (Node, NodeView) {
    let node = home
        .run(gateway.port())
        .env("PATH", &placeholders.search_path)
        .current_dir(&placeholders.working_directory)
        .start();
    let view = gateway.admit(crate::common::DEADLINE).await;
    (node, view.unwrap())
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

fn answer(result: &Value, events: Vec<Value>) -> Value {
    let denial = events.iter().find(|event| event["event"] == "exec.denied");
    if result["ok"] == true {
        let payload = result["payloadJSON"].as_str().map_or(Value::Null, |text| {
            serde_json::from_str(text).unwrap_or_else(|error| json!(error.to_string()))
        });
        return json!({ "status": "ok", "payload": payload, "events": events });
    }
    let mut answer = json!({
        "status": if denial.is_some() { "denied" } else { "error" },
        "code": result["error"]["code"],
        "message": result["error"]["message"],
    });
    if let Some(denial) = denial {
        answer["reason"] = denial["payload"]["reason"].clone();
    }
    answer["events"] = events.into();
    answer
}
