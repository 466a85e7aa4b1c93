//! What `import` tells: which item came, or would come, from where.

use serde::Serialize;

use super::OldNodeHost;
use super::old_node::OldNode;
use crate::cli::output;

/// How an import ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it is this node's now.
    Imported,
    /// It was before.
    AlreadyImported,
    /// Only looked at.
    WouldImport {
        /// What has to be stopped first.
        running: Option<OldNode>,
    },
}

/// What is told about an import.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    result: &'static str,
    from: String,
    device_id: Option<String>,
    gateway: String,
    running: Option<String>,
    items: Vec<Item>,
    passed_over: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Item {
    item: &'static str,
    /// `null` where there is none to take.
    source: Option<String>,
    #[serde(skip)]
    detail: String,
}

impl Report {
    pub(super) fn of(old: &OldNodeHost, outcome: Outcome) -> Self {
        let node = &old.node;
        let (result, running) = match outcome {
            Outcome::Imported => ("imported", None),
            Outcome::AlreadyImported => ("already-imported", None),
            Outcome::WouldImport { running } => {
                ("would-import", running.map(|running| running.to_string()))
            }
        };
        let gateway = old.endpoint.url();
        let device_id = old.device_id().map(str::to_owned);
        let items = vec![
            Item {
                item: "profile",
                source: Some(node.profile.source.to_string()),
                detail: format!("\"{}\", gateway {gateway}", old.profile.display_name),
            },
            Item {
                item: "identity",
                source: source(node.identity.as_ref().map(|found| &found.source)),
                detail: device_id.as_deref().map_or_else(
                    || "none; this node pairs as a new device".to_owned(),
                    |id| format!("device {id}"),
                ),
            },
            Item {
                item: "deviceToken",
                source: source(node.device_token.as_ref().map(|found| &found.source)),
                detail: match &node.device_token {
                    Some(_) => format!("for {}", old.endpoint.scope()),
                    None => "none; the gateway's shared token is needed once more".to_owned(),
                },
            },
            Item {
                item: "approvals",
                source: source(node.approvals.as_ref().map(|found| &found.source)),
                detail: match &node.approvals {
                    Some(_) => "as they are".to_owned(),
                    None => {
                        "none; the gateway asks before each command unless openclaw.json allows it"
                            .to_owned()
                    }
                },
            },
        ];
        Self {
            result,
            from: old.state_dir.display().to_string(),
            device_id,
            gateway,
            running,
            items,
            passed_over: node.passed_over.clone(),
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![match self.result {
            "imported" => format!("took over the node host of {}", self.from),
            "already-imported" => format!("the node host of {} was taken over before", self.from),
            _ => format!("would take over the node host of {}", self.from),
        }];
        for Item {
            item,
            source,
            detail,
        } in &self.items
        {
            let from = source
                .as_ref()
                .map(|source| format!(" (from {source})"))
                .unwrap_or_default();
            lines.push(format!("  {item}: {detail}{from}"));
        }
        let passed_over = self.passed_over.iter();
        lines.extend(passed_over.map(|what| format!("  passed over: {what}")));
        if let Some(running) = &self.running {
            lines.push(format!("  it still runs: {running}"));
        }
        lines
    }

    pub(super) fn print(&self, as_json: bool) -> Result<(), serde_json::Error> {
        if as_json {
            return output::json_line(self);
        }
        for line in self.lines() {
            output::line(line);
        }
        Ok(())
    }
}

fn source(source: Option<&state::upstream::Source>) -> Option<String> {
    source.map(ToString::to_string)
}
