//! What an operator may ask of its gateway.

use std::time::Duration;

use actix::{AsyncContext as _, Context};
use protocol::frame::GatewayError;
use serde_json::{Value, json};

use crate::approval::ResolveError;
use crate::clock::now_ms;
use crate::connect::Role;
use crate::error::invalid_request;
use crate::hub::{Caller, Hub};
use crate::options::Release;
use crate::schema::{Member, Shape, validate};

const NOTHING: Shape = Shape::Object(&[]);
const REQUEST_ID: Shape = Shape::Object(&[Member::required("requestId", Shape::Text(1))]);
const NODE_ID: Shape = Shape::Object(&[Member::required("nodeId", Shape::Text(1))]);
const DEVICE_ID: Shape = Shape::Object(&[Member::required("deviceId", Shape::Text(1))]);
const DEVICE_TOKEN: Shape = Shape::Object(&[
    Member::required("deviceId", Shape::Text(1)),
    Member::required("role", Shape::Text(1)),
    Member::optional("scopes", Shape::List(&Shape::Text(1))),
]);
const APPROVAL_ID: Shape = Shape::Object(&[Member::required("id", Shape::Text(1))]);
const RESOLVE: Shape = Shape::Object(&[
    Member::required("id", Shape::Text(1)),
    Member::required("decision", Shape::Text(1)),
]);

/// Members of `exec.approval.request` that the May release does not know (§12).
const SEPTEMBER_APPROVAL_MEMBERS: &[&str] = &["requireDeliveryRoute", "suppressDelivery"];

fn text<'a>(params: &'a Value, name: &str) -> &'a str {
    params
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or("")
        .trim()
}

fn unknown_approval() -> GatewayError {
    GatewayError {
        details: json!({
            "reason": "APPROVAL_NOT_FOUND",
            "remediation": "Re-request the action; pending approvals are cleared after expiry or restart.",
        }),
        ..invalid_request("unknown or expired approval id")
    }
}

impl Hub {
    /// Answers one request of an operator, or arranges that it is answered later. `device` is the
    /// operator's device id, if it has one.
    pub(crate) fn operator_request(
        &mut self,
        caller: Caller,
        device: Option<String>,
        method: &str,
        params: &Value,
        context: &mut Context<Self>,
    ) {
        let result = match method {
            "node.invoke" => {
                self.invoke(caller, device.as_deref(), params, context);
                return;
            }
            "exec.approvals.node.get" | "exec.approvals.node.set" => {
                self.node_approvals(caller, method, params, context);
                return;
            }
            "exec.approval.request" => {
                self.request_approval(caller, device, params, context);
                return;
            }
            "exec.approval.waitDecision" => {
                self.wait_decision(caller, params);
                return;
            }
            "exec.approval.resolve" => self.resolve_approval(params),
            "exec.approval.get" => self.get_approval(params),
            "exec.approval.list" => Ok(Value::Array(self.approvals.open(now_ms()))),
            "health" => Ok(json!({ "ok": true, "ts": now_ms() })),
            "skills.bins" => Ok(json!({ "bins": self.options.skill_bins })),
            "node.list" => self.checked(method, NOTHING, params, |hub| Ok(hub.list_nodes())),
            "node.describe" => self.checked(method, NODE_ID, params, |hub| {
                hub.describe_node(text(params, "nodeId"))
                    .ok_or_else(|| invalid_request("unknown nodeId"))
            }),
            "node.pair.list" => {
                self.checked(method, NOTHING, params, |hub| Ok(hub.surfaces.list()))
            }
            "node.pair.approve" => self.checked(method, REQUEST_ID, params, |hub| {
                hub.approve_surface(text(params, "requestId"))
            }),
            "node.pair.reject" => self.checked(method, REQUEST_ID, params, |hub| {
                hub.reject_surface(text(params, "requestId"))
            }),
            "node.pair.remove" => self.checked(method, NODE_ID, params, |hub| {
                hub.remove_device(text(params, "nodeId"))
                    .map_err(|_| invalid_request("unknown nodeId"))
            }),
            "device.pair.list" => self.checked(method, NOTHING, params, |hub| {
                Ok(hub.devices.list(|device| hub.is_connected(device.as_str())))
            }),
            "device.pair.approve" => self.checked(method, REQUEST_ID, params, |hub| {
                hub.decide_device(text(params, "requestId"), true)
            }),
            "device.pair.reject" => self.checked(method, REQUEST_ID, params, |hub| {
                hub.decide_device(text(params, "requestId"), false)
            }),
            "device.pair.remove" => self.checked(method, DEVICE_ID, params, |hub| {
                hub.remove_device(text(params, "deviceId"))
            }),
            "device.token.rotate" | "device.token.revoke" => {
                self.checked(method, DEVICE_TOKEN, params, |hub| {
                    hub.change_token(method, params)
                })
            }
            other => Err(invalid_request(format!("unknown method: {other}"))),
        };
        self.answer(caller, result);
    }

    /// Runs a method once its params have the right shape.
    fn checked(
        &mut self,
        method: &str,
        shape: Shape,
        params: &Value,
        run: impl FnOnce(&mut Self) -> Result<Value, GatewayError>,
    ) -> Result<Value, GatewayError> {
        let empty = json!({});
        let params = if params.is_null() { &empty } else { params };
        validate(self.release(), shape, params)
            .map_err(|why| invalid_request(format!("invalid {method} params: {why}")))?;
        run(self)
    }

    fn is_connected(&self, device_id: &str) -> bool {
        self.connections.values().any(|connection| {
            let device = connection
                .client
                .as_ref()
                .and_then(|client| client.device.as_ref());
            device.is_some_and(|device| device.device_id.as_str() == device_id)
        })
    }

    fn list_nodes(&self) -> Value {
        let mut ids: Vec<&str> = self.devices.node_ids().map(|id| id.as_str()).collect();
        ids.sort_unstable();
        let nodes: Vec<Value> = ids
            .into_iter()
            .filter_map(|id| self.node_entry(id))
            .collect();
        json!({ "ts": now_ms(), "nodes": nodes })
    }

    fn describe_node(&self, node_id: &str) -> Option<Value> {
        let mut described = json!({ "ts": now_ms() });
        if let (Some(described), Value::Object(entry)) =
            (described.as_object_mut(), self.node_entry(node_id)?)
        {
            described.extend(entry);
        }
        Some(described)
    }

    fn node_entry(&self, node_id: &str) -> Option<Value> {
        let id = self.devices.node_ids().find(|id| id.as_str() == node_id)?;
        let claim = self.devices.claim(id)?;
        let connected = self.node(node_id).map(|(_, node)| node);
        let pending = self.surfaces.pending_of(node_id);
        let approved = self.surfaces.approved_surface(node_id);
        let surface = connected.map(|node| &node.effective).or(approved);
        let sorted = |names: Option<&Vec<String>>| {
            let mut names = names.cloned().unwrap_or_default();
            names.sort_unstable();
            names
        };
        let mut entry = json!({
            "nodeId": node_id,
            "displayName": connected
                .map_or(&claim.display_name, |node| &node.metadata.display_name),
            "platform": connected.map_or(&claim.platform, |node| &node.metadata.platform),
            "version": connected.map(|node| &node.metadata.version),
            "clientId": claim.client_id,
            "clientMode": claim.client_mode,
            "deviceFamily": connected
                .map_or(&claim.device_family, |node| &node.metadata.device_family),
            "caps": sorted(surface.map(|surface| &surface.caps)),
            "commands": sorted(surface.map(|surface| &surface.commands)),
            "pathEnv": connected.and_then(|node| node.path_env.as_ref()),
            "connectedAtMs": connected.map(|node| node.connected_at_ms),
            "approvedAtMs": self
                .surfaces
                .approved_at_ms(node_id)
                .or_else(|| self.devices.approved_at_ms(id)),
        });
        if let Some(entry) = entry.as_object_mut() {
            entry.retain(|_, value| !value.is_null());
            if self.release() == Release::September {
                let state = match (pending, approved) {
                    (Some(_), None) => "pending-approval",
                    (Some(_), Some(_)) => "pending-reapproval",
                    (None, Some(_)) => "approved",
                    (None, None) => "unapproved",
                };
                entry.insert("approvalState".to_owned(), state.into());
                if let Some(pending) = pending {
                    let surface = &pending.surface;
                    entry.insert("pendingRequestId".to_owned(), json!(pending.request_id));
                    entry.insert("pendingDeclaredCaps".to_owned(), json!(surface.caps));
                    entry.insert(
                        "pendingDeclaredCommands".to_owned(),
                        json!(surface.commands),
                    );
                }
            }
            entry.insert("paired".to_owned(), true.into());
            entry.insert("connected".to_owned(), connected.is_some().into());
        }
        Some(entry)
    }

    /// Approves a surface and applies it to the live connection (§10).
    fn approve_surface(&mut self, request_id: &str) -> Result<Value, GatewayError> {
        let (pending, answer) = self
            .surfaces
            .approve(request_id, now_ms())
            .ok_or_else(|| invalid_request("unknown requestId"))?;
        if let Some((_, node)) = self.node_mut(&pending.node.node_id) {
            node.effective = pending.surface.clone();
            node.approved = true;
        }
        self.announce_surface(&pending.node.node_id, request_id, "approved");
        Ok(answer)
    }

    fn reject_surface(&mut self, request_id: &str) -> Result<Value, GatewayError> {
        let pending = self
            .surfaces
            .reject(request_id)
            .ok_or_else(|| invalid_request("unknown requestId"))?;
        self.announce_surface(&pending.node.node_id, request_id, "rejected");
        Ok(json!({ "requestId": request_id, "nodeId": pending.node.node_id }))
    }

    fn announce_surface(&mut self, node_id: &str, request_id: &str, decision: &str) {
        let resolved = json!({
            "requestId": request_id, "nodeId": node_id, "decision": decision, "ts": now_ms(),
        });
        if self.release() == Release::September
            && let Some((connection, _)) = self.node(node_id)
        {
            self.send_event(connection, "node.pair.resolved", &resolved);
        }
        self.broadcast(Some(Role::Operator), "node.pair.resolved", &resolved);
        self.touch();
    }

    fn decide_device(&mut self, request_id: &str, approve: bool) -> Result<Value, GatewayError> {
        let (resolved, decision) = if approve {
            (self.devices.approve(request_id, now_ms()), "approved")
        } else {
            (self.devices.reject(request_id), "rejected")
        };
        let resolved = resolved.ok_or_else(|| invalid_request("unknown requestId"))?;
        let event = json!({
            "requestId": request_id,
            "deviceId": resolved.device_id,
            "decision": decision,
            "ts": now_ms(),
        });
        self.broadcast(Some(Role::Operator), "device.pair.resolved", &event);
        self.touch();
        Ok(resolved.answer)
    }

    fn remove_device(&mut self, device_id: &str) -> Result<Value, GatewayError> {
        let removed = self
            .devices
            .remove(device_id)
            .ok_or_else(|| invalid_request("unknown deviceId"))?;
        self.surfaces.remove_node(device_id);
        self.invalidate_device(device_id);
        self.touch();
        Ok(json!({ "deviceId": removed }))
    }

    fn change_token(&mut self, method: &str, params: &Value) -> Result<Value, GatewayError> {
        let (device_id, role) = (text(params, "deviceId"), text(params, "role"));
        let (changed, verb) = if method.ends_with(".rotate") {
            (
                self.devices.rotate_token(device_id, role, now_ms()),
                "rotation",
            )
        } else {
            (
                self.devices.revoke_token(device_id, role, now_ms()),
                "revocation",
            )
        };
        let changed =
            changed.ok_or_else(|| invalid_request(format!("device token {verb} denied")))?;
        self.invalidate_device(device_id);
        Ok(changed.answer)
    }

    fn request_approval(
        &mut self,
        caller: Caller,
        device: Option<String>,
        params: &Value,
        context: &mut Context<Self>,
    ) {
        let mut params = params.clone();
        if self.release() == Release::May {
            let unknown: Vec<String> = SEPTEMBER_APPROVAL_MEMBERS
                .iter()
                .filter(|name| params.get(**name).is_some())
                .map(|name| format!("at root: unexpected property '{name}'"))
                .collect();
            if !unknown.is_empty() {
                let why = unknown.join("; ");
                let error = invalid_request(format!("invalid exec.approval.request params: {why}"));
                self.answer(caller, Err(error));
                return;
            }
            // This release keeps only the members of a plan that it knows (D13's reason).
            if let Some(plan) = params
                .get_mut("systemRunPlan")
                .and_then(Value::as_object_mut)
            {
                plan.remove("policySnapshot");
            }
        }
        let two_phase = params.get("twoPhase") == Some(&Value::Bool(true));
        let approval = match self.approvals.request(&params, device, now_ms()) {
            Ok(approval) => approval,
            Err(why) => {
                self.answer(caller, Err(invalid_request(why)));
                return;
            }
        };
        let (accepted, described) = (approval.accepted(), approval.describe());
        let id = approval.id.clone();
        let lifetime = Duration::from_millis(approval.expires_at_ms.saturating_sub(now_ms()));
        context.run_later(lifetime, move |hub, _| hub.expire_approval(&id));
        match caller {
            Caller::Session {
                connection,
                request_id,
            } if two_phase => {
                // The same request is answered again once the decision is there.
                let again = Caller::Session {
                    connection,
                    request_id: request_id.clone(),
                };
                approval.waiting.push(again);
                self.answer(
                    Caller::Session {
                        connection,
                        request_id,
                    },
                    Ok(accepted),
                );
            }
            Caller::Handle(_) if two_phase => self.answer(caller, Ok(accepted)),
            Caller::Session { .. } | Caller::Handle(_) => approval.waiting.push(caller),
        }
        self.broadcast(Some(Role::Operator), "exec.approval.requested", &described);
    }

    fn expire_approval(&mut self, id: &str) {
        if let Some((waiting, outcome)) = self.approvals.expire(id) {
            for caller in waiting {
                self.answer(caller, Ok(outcome.clone()));
            }
        }
    }

    fn wait_decision(&mut self, caller: Caller, params: &Value) {
        if let Err(why) = validate(self.release(), APPROVAL_ID, params) {
            let why = format!("invalid exec.approval.waitDecision params: {why}");
            self.answer(caller, Err(invalid_request(why)));
            return;
        }
        match self.approvals.get_mut(text(params, "id"), now_ms()) {
            None => self.answer(
                caller,
                Err(invalid_request("approval expired or not found")),
            ),
            Some(approval) if approval.is_open() => approval.waiting.push(caller),
            Some(approval) => {
                let outcome = approval.outcome();
                self.answer(caller, Ok(outcome));
            }
        }
    }

    fn get_approval(&mut self, params: &Value) -> Result<Value, GatewayError> {
        validate(self.release(), APPROVAL_ID, params)
            .map_err(|why| invalid_request(format!("invalid exec.approval.get params: {why}")))?;
        let approval = self.approvals.get_mut(text(params, "id"), now_ms());
        approval
            .map(|approval| approval.summary())
            .ok_or_else(unknown_approval)
    }

    fn resolve_approval(&mut self, params: &Value) -> Result<Value, GatewayError> {
        validate(self.release(), RESOLVE, params).map_err(|why| {
            invalid_request(format!("invalid exec.approval.resolve params: {why}"))
        })?;
        let now = now_ms();
        let resolved = self
            .approvals
            .resolve(text(params, "id"), text(params, "decision"), now);
        let (approval, new) = resolved.map_err(|error| match error {
            ResolveError::InvalidDecision => invalid_request("invalid decision"),
            ResolveError::Unknown => unknown_approval(),
            ResolveError::AllowAlwaysUnavailable => GatewayError {
                details: json!({ "reason": "APPROVAL_ALLOW_ALWAYS_UNAVAILABLE" }),
                ..invalid_request("allow-always is unavailable for this command")
            },
        })?;
        let (outcome, event) = (approval.outcome(), approval.resolved_event(now));
        let waiting = std::mem::take(&mut approval.waiting);
        for caller in waiting {
            self.answer(caller, Ok(outcome.clone()));
        }
        if new {
            self.broadcast(Some(Role::Operator), "exec.approval.resolved", &event);
        }
        Ok(json!({ "ok": true }))
    }
}
