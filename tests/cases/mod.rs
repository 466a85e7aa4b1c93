//! The corpus of exec and approvals: what a real node answered, or what this one answers better on
//! purpose (`divergence`), one case per line of `exec.jsonl`.

pub(crate) mod comparison;
pub(crate) mod placeholders;
pub(crate) mod world;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

const CORPUS: &str = include_str!("exec.jsonl");
const NOT_YET: &str = include_str!("not_yet.txt");

/// One case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) id: String,
    #[serde(rename = "area")]
    pub(crate) _area: String,
    pub(crate) input: Input,
    expect: Value,
    /// What an ordinary user sees instead, whom not every file belongs to.
    expect_nonroot: Option<Value>,
    /// What the follow-ups of the input bring, in their order.
    #[serde(default)]
    pub(crate) expect_then: Vec<Value>,
    #[serde(rename = "note")]
    pub(crate) _note: Option<String>,
    #[serde(rename = "divergence")]
    pub(crate) _divergence: Option<String>,
}

/// What a case does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    config: Option<Value>,
    #[serde(default)]
    pub(crate) setup: Vec<FileAction>,
    approvals: Option<Value>,
    #[serde(default)]
    pub(crate) prelude: Vec<Step>,
    pub(crate) command: String,
    params: Option<Value>,
    #[serde(rename = "paramsJSON", default)]
    params_json: Value,
    #[serde(default)]
    pub(crate) then: Vec<FollowUp>,
}

/// Something done to the disk.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum FileAction {
    Write {
        write: String,
        content: String,
        mode: Option<String>,
    },
    MakeFolder {
        mkdir: String,
    },
    Link {
        symlink: String,
        to: String,
    },
    Remove {
        rm: String,
    },
}

/// Something done between the setup and the invoke that the case is about.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Step {
    Invoke {
        invoke: String,
        params: Value,
        #[serde(rename = "saveAs")]
        save_as: String,
    },
    SetApprovals {
        #[serde(rename = "setApprovals")]
        document: Value,
    },
    File(FileAction),
}

/// Something done after it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum FollowUp {
    GetApprovals {
        #[serde(rename = "getApprovals")]
        _get: bool,
    },
    Invoke {
        invoke: String,
        params: Value,
        expect: Value,
    },
}

impl Case {
    pub(crate) fn expect(&self, as_root: bool) -> &Value {
        match &self.expect_nonroot {
            Some(expect) if !as_root => expect,
            Some(_) | None => &self.expect,
        }
    }
}

impl Input {
    /// openclaw.json. Where a case has no policy of its own, everything is allowed: it was
    /// recorded on a node that allows everything by default (D9).
    pub(crate) fn config(&self) -> Value {
        let mut config = self.config.clone().unwrap_or_else(|| json!({}));
        let exec = &mut config["tools"]["exec"];
        if ["security", "ask", "mode"]
            .iter()
            .all(|name| exec[name].is_null())
        {
            exec["security"] = "full".into();
            exec["ask"] = "off".into();
        }
        config["tools"]["exec"]
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        config
    }

    pub(crate) fn approvals(&self) -> Value {
        self.approvals
            .clone()
            .unwrap_or_else(|| json!({ "version": 1, "agents": {} }))
    }

    pub(crate) fn params(&self) -> Params<'_> {
        match &self.params {
            Some(params) => Params::Structured(params),
            None => Params::Raw(&self.params_json),
        }
    }
}

/// Params of an invoke.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Params<'a> {
    /// To be encoded, placeholders and all.
    Structured(&'a Value),
    /// The member `paramsJSON` as it is.
    Raw(&'a Value),
}

/// Every case, in the order of the corpus.
pub(crate) fn corpus() -> Vec<Case> {
    let parse = |line: &str| {
        serde_json::from_str::<Case>(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    };
    let cases: Vec<Case> = CORPUS.lines().map(parse).collect();
    let ids: BTreeSet<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids.len(), cases.len(), "every id is there once");
    cases
}

/// Ids of the cases that are not expected to pass yet.
pub(crate) fn not_yet(corpus: &[Case]) -> BTreeSet<String> {
    let known: BTreeSet<&str> = corpus.iter().map(|case| case.id.as_str()).collect();
    let mut listed = BTreeSet::new();
    for id in NOT_YET
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if id.starts_with('#') {
            continue;
        }
        assert!(
            known.contains(id),
            "not_yet.txt names {id}, which is no case"
        );
        assert!(listed.insert(id.to_owned()), "not_yet.txt names {id} twice");
    }
    listed
}

/// The cases by the configuration that they need, each group in the order of the corpus.
pub(crate) fn by_config(cases: Vec<Case>) -> Vec<(Value, Vec<Case>)> {
    let mut groups: BTreeMap<String, (Value, Vec<Case>)> = BTreeMap::new();
    for case in cases {
        let config = case.input.config();
        let group = groups
            .entry(config.to_string())
            .or_insert_with(|| (config, Vec::new()));
        group.1.push(case);
    }
    groups.into_values().collect()
}
