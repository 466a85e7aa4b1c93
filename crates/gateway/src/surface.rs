//! The second gate: which capabilities and commands of a paired node an operator has approved
//! (wire protocol §10).

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::options::Release;

/// What a node declares, or what of it is approved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surface {
    /// Capability names.
    pub caps: Vec<String>,
    /// Command names.
    pub commands: Vec<String>,
    /// Permissions and whether the node holds them.
    pub permissions: BTreeMap<String, bool>,
}

impl Surface {
    fn intersection(&self, other: &Self) -> Self {
        let common = |mine: &[String], theirs: &[String]| {
            mine.iter()
                .filter(|name| theirs.contains(name))
                .cloned()
                .collect()
        };
        Self {
            caps: common(&self.caps, &other.caps),
            commands: common(&self.commands, &other.commands),
            permissions: self
                .permissions
                .iter()
                .filter(|(name, _)| other.permissions.contains_key(*name))
                .map(|(name, granted)| (name.clone(), *granted))
                .collect(),
        }
    }

    /// Whether `self` holds nothing that `approved` lacks.
    fn is_within(&self, approved: &Self) -> bool {
        self.caps.iter().all(|name| approved.caps.contains(name))
            && self
                .commands
                .iter()
                .all(|name| approved.commands.contains(name))
            && self
                .permissions
                .iter()
                .all(|(name, granted)| !granted || approved.permissions.get(name) == Some(&true))
    }
}

/// Commands that every desktop platform may declare on both releases (§5.1).
const COMMON_COMMANDS: &[&str] = &[
    "system.run.prepare",
    "system.run",
    "system.which",
    "system.notify",
    "browser.proxy",
];

/// Commands that only the September release lets a desktop declare (§5.1).
const SEPTEMBER_COMMANDS: &[&str] = &[
    "agent.cli.claude.run.v1",
    "browser.proxy.upload.v1",
    "computer.act",
    "desktop.stream",
    "fs.listDir",
    "mcp.tools.call.v1",
    "ollama.chat",
    "ollama.models",
    "screen.snapshot",
    "system.execApprovals.get",
    "system.execApprovals.set",
    "terminal.upload",
];

/// A platform word as the gateway classifies it (§5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Platform {
    /// The platform, repaired where the release repairs it.
    pub(crate) name: String,
    /// The device family, filled in where the release fills it in.
    pub(crate) family: Option<String>,
    desktop: bool,
}

const DESKTOPS: &[(&str, &str)] = &[("linux", "Linux"), ("macos", "Mac"), ("windows", "Windows")];

impl Platform {
    /// Classifies what a node host declares.
    pub(crate) fn classify(release: Release, name: &str, family: Option<&str>) -> Self {
        let word = name.trim().to_ascii_lowercase();
        let word = match (release, word.as_str()) {
            (Release::September, "darwin") => "macos",
            (Release::September, "win32") => "windows",
            (_, other) => other,
        };
        let known = DESKTOPS.iter().find(|(desktop, _)| *desktop == word);
        let declared = family.map(str::trim).filter(|family| !family.is_empty());
        match (known, declared) {
            (Some((word, expected)), Some(family)) if family.eq_ignore_ascii_case(expected) => {
                Self {
                    name: (*word).to_owned(),
                    family: Some(family.to_owned()),
                    desktop: true,
                }
            }
            (Some((word, expected)), None) if release == Release::September => Self {
                name: (*word).to_owned(),
                family: Some((*expected).to_owned()),
                desktop: true,
            },
            _ => Self {
                name: name.to_owned(),
                family: declared.map(str::to_owned),
                desktop: false,
            },
        }
    }

    /// Whether a node on this platform may declare the command.
    pub(crate) fn admits(&self, release: Release, command: &str) -> bool {
        self.desktop
            && (COMMON_COMMANDS.contains(&command)
                || release == Release::September && SEPTEMBER_COMMANDS.contains(&command))
    }
}

/// What of a declaration counts on this gateway: commands that the platform may not have are
/// silently left out, duplicates too.
pub(crate) fn admitted(release: Release, platform: &Platform, declared: Surface) -> Surface {
    let unique = |names: Vec<String>| {
        let mut unique: Vec<String> = Vec::new();
        for name in names {
            let name = name.trim();
            if !name.is_empty() && !unique.iter().any(|known| known == name) {
                unique.push(name.to_owned());
            }
        }
        unique
    };
    let mut commands = unique(declared.commands);
    commands.retain(|command| platform.admits(release, command));
    Surface {
        caps: unique(declared.caps),
        commands,
        permissions: declared.permissions,
    }
}

/// Who declares a surface, as lists and events show it.
#[derive(Debug, Clone)]
pub(crate) struct NodeMetadata {
    pub(crate) node_id: String,
    pub(crate) client_id: String,
    pub(crate) client_mode: String,
    pub(crate) display_name: Option<String>,
    pub(crate) platform: String,
    pub(crate) version: String,
    pub(crate) device_family: Option<String>,
}

impl NodeMetadata {
    fn describe(&self, surface: &Surface) -> Map<String, Value> {
        let described = json!({
            "nodeId": self.node_id,
            "clientId": self.client_id,
            "clientMode": self.client_mode,
            "displayName": self.display_name,
            "platform": self.platform,
            "version": self.version,
            "deviceFamily": self.device_family,
            "caps": surface.caps,
            "commands": surface.commands,
            "permissions": (!surface.permissions.is_empty()).then_some(&surface.permissions),
        });
        match described {
            Value::Object(mut described) => {
                described.retain(|_, value| !value.is_null());
                described
            }
            _ => Map::new(),
        }
    }
}

/// A declaration that waits for an operator.
#[derive(Debug, Clone)]
pub(crate) struct PendingSurface {
    pub(crate) request_id: String,
    pub(crate) node: NodeMetadata,
    pub(crate) surface: Surface,
    at_ms: u64,
}

impl PendingSurface {
    pub(crate) fn describe(&self) -> Value {
        let mut described = Map::new();
        described.insert("requestId".to_owned(), self.request_id.clone().into());
        described.extend(self.node.describe(&self.surface));
        // Running programs is more than pairing, so it takes an administrator (§10).
        let runs = self
            .surface
            .commands
            .iter()
            .any(|name| name.starts_with("system."));
        let scopes: &[&str] = if runs {
            &["operator.pairing", "operator.admin"]
        } else {
            &["operator.pairing"]
        };
        described.insert("requiredApproveScopes".to_owned(), json!(scopes));
        described.insert("ts".to_owned(), self.at_ms.into());
        Value::Object(described)
    }
}

#[derive(Debug, Clone)]
struct ApprovedSurface {
    node: NodeMetadata,
    surface: Surface,
    created_at_ms: u64,
    approved_at_ms: u64,
}

impl ApprovedSurface {
    fn describe(&self) -> Value {
        let mut described = self.node.describe(&self.surface);
        described.insert("createdAtMs".to_owned(), self.created_at_ms.into());
        described.insert("approvedAtMs".to_owned(), self.approved_at_ms.into());
        Value::Object(described)
    }
}

/// What a connection may use now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effective {
    /// The approved part of the declaration.
    pub(crate) surface: Surface,
    /// The request that would widen it, if one is open.
    pub(crate) pending: Option<PendingSurface>,
    /// Whether that request was filed just now.
    pub(crate) newly_pending: bool,
    /// Whether an operator ever approved anything of this node.
    pub(crate) approved: bool,
}

/// All surfaces a gateway knows. Lives in memory only, and survives a restart of the server.
#[derive(Debug, Default)]
pub(crate) struct SurfaceRegistry {
    approved: HashMap<String, ApprovedSurface>,
    pending: BTreeMap<String, PendingSurface>,
}

impl SurfaceRegistry {
    /// Holds a declaration against what is approved, and files a request if it asks for more.
    pub(crate) fn reconcile(
        &mut self,
        node: &NodeMetadata,
        declared: &Surface,
        now_ms: u64,
    ) -> Effective {
        let approved = self.approved.get(&node.node_id);
        if let Some(approved) = approved.filter(|approved| declared.is_within(&approved.surface)) {
            let surface = approved.surface.intersection(declared);
            self.pending
                .retain(|_, pending| pending.node.node_id != node.node_id);
            return Effective {
                surface,
                pending: None,
                newly_pending: false,
                approved: true,
            };
        }
        let surface = approved.map_or_else(Surface::default, |known| {
            known.surface.intersection(declared)
        });
        let approved = approved.is_some();
        let same = self
            .pending
            .values()
            .find(|pending| pending.node.node_id == node.node_id && pending.surface == *declared);
        let (pending, newly_pending) = if let Some(same) = same {
            (same.clone(), false)
        } else {
            self.pending
                .retain(|_, pending| pending.node.node_id != node.node_id);
            let pending = PendingSurface {
                request_id: Uuid::new_v4().to_string(),
                node: node.clone(),
                surface: declared.clone(),
                at_ms: now_ms,
            };
            self.pending
                .insert(pending.request_id.clone(), pending.clone());
            (pending, true)
        };
        Effective {
            surface,
            pending: Some(pending),
            newly_pending,
            approved,
        }
    }

    /// Approves a request; the answer is that of `node.pair.approve`.
    pub(crate) fn approve(
        &mut self,
        request_id: &str,
        now_ms: u64,
    ) -> Option<(PendingSurface, Value)> {
        let pending = self.pending.remove(request_id)?;
        let created_at_ms = self
            .approved
            .get(&pending.node.node_id)
            .map_or(now_ms, |known| known.created_at_ms);
        let approved = ApprovedSurface {
            node: pending.node.clone(),
            surface: pending.surface.clone(),
            created_at_ms,
            approved_at_ms: now_ms,
        };
        let answer = json!({ "requestId": request_id, "node": approved.describe() });
        self.approved.insert(pending.node.node_id.clone(), approved);
        Some((pending, answer))
    }

    pub(crate) fn reject(&mut self, request_id: &str) -> Option<PendingSurface> {
        self.pending.remove(request_id)
    }

    pub(crate) fn remove_node(&mut self, node_id: &str) {
        self.approved.remove(node_id);
        self.pending
            .retain(|_, pending| pending.node.node_id != node_id);
    }

    pub(crate) fn approved_at_ms(&self, node_id: &str) -> Option<u64> {
        Some(self.approved.get(node_id)?.approved_at_ms)
    }

    pub(crate) fn approved_surface(&self, node_id: &str) -> Option<&Surface> {
        Some(&self.approved.get(node_id)?.surface)
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = &PendingSurface> {
        self.pending.values()
    }

    pub(crate) fn pending_of(&self, node_id: &str) -> Option<&PendingSurface> {
        self.pending
            .values()
            .find(|pending| pending.node.node_id == node_id)
    }

    /// The answer to `node.pair.list`.
    pub(crate) fn list(&self) -> Value {
        let pending: Vec<Value> = self
            .pending
            .values()
            .map(PendingSurface::describe)
            .collect();
        let mut approved: Vec<&ApprovedSurface> = self.approved.values().collect();
        approved.sort_by(|left, right| left.node.node_id.cmp(&right.node.node_id));
        let paired: Vec<Value> = approved
            .into_iter()
            .map(ApprovedSurface::describe)
            .collect();
        json!({ "pending": pending, "paired": paired })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surface(commands: &[&str]) -> Surface {
        Surface {
            caps: vec!["system".to_owned()],
            commands: commands.iter().map(|&name| name.to_owned()).collect(),
            permissions: BTreeMap::new(),
        }
    }

    fn node() -> NodeMetadata {
        NodeMetadata {
            node_id: "n".to_owned(),
            client_id: "node-host".to_owned(),
            client_mode: "node".to_owned(),
            display_name: None,
            platform: "linux".to_owned(),
            version: "1".to_owned(),
            device_family: None,
        }
    }

    #[test]
    fn a_platform_decides_which_commands_may_be_declared() {
        use Release::{May, September};
        let cases = [
            (May, "linux", Some("Linux"), true),
            (May, "Linux ", Some("LINUX"), true),
            (May, "linux", None, false),
            (September, "linux", None, true),
            (May, "darwin", Some("Mac"), false),
            (September, "darwin", None, true),
            (September, "win32", Some("Windows"), true),
            (September, "linux 6.8", None, false),
            (September, "linux", Some("Server"), false),
            (September, "", Some("Linux"), false),
        ];
        for (release, name, family, expected) in cases {
            let platform = Platform::classify(release, name, family);
            assert_eq!(
                platform.admits(release, "system.run"),
                expected,
                "{name} {family:?}"
            );
        }
        let platform = Platform::classify(May, "linux", Some("Linux"));
        assert!(!platform.admits(May, "system.execApprovals.get"));
    }

    #[test]
    fn a_wider_declaration_waits_while_the_approved_part_works() {
        let mut registry = SurfaceRegistry::default();
        let first = registry.reconcile(&node(), &surface(&["a"]), 1);
        assert!(first.newly_pending && !first.approved && first.surface.commands.is_empty());
        let again = registry.reconcile(&node(), &surface(&["a"]), 2);
        let request_id = first.pending.unwrap().request_id;
        assert_eq!(
            again.pending.unwrap().request_id,
            request_id,
            "an open request is reused"
        );

        registry.approve(&request_id, 3).unwrap();
        let approved = registry.reconcile(&node(), &surface(&["a"]), 4);
        assert_eq!(approved.surface.commands, ["a"]);
        assert!(approved.pending.is_none());

        let wider = registry.reconcile(&node(), &surface(&["b", "a"]), 5);
        assert_eq!(wider.surface.commands, ["a"]);
        assert_eq!(wider.pending.unwrap().surface.commands, ["b", "a"]);

        let narrower = registry.reconcile(&node(), &surface(&[]), 6);
        assert!(narrower.pending.is_none() && narrower.surface.commands.is_empty());
    }
}
