//! From a connect request to hello-ok: authentication, the pairing gate, the surface gate.

use std::time::Instant;

use actix::Context;
use protocol::close::{Close, CloseCode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::auth::{Attempt, AuthMethod, DeviceCredentials, authenticate};
use crate::clock::now_ms;
use crate::connect::{ConnectRequest, Refusal, Role, device_required, origin_not_allowed};
use crate::frame;
use crate::hub::{Client, ConnectedNode, Hub};
use crate::options::Release;
use crate::pairing::{BootstrapProfile, Claim, PairingReason};
use crate::record::Recorded;
use crate::session::{ConnectionId, Peer};
use crate::surface::{NodeMetadata, Platform, admitted};

/// Methods that hello-ok announces on both releases.
const METHODS: &[&str] = &[
    "health",
    "exec.approvals.node.get",
    "exec.approvals.node.set",
    "exec.approval.get",
    "exec.approval.list",
    "exec.approval.request",
    "exec.approval.waitDecision",
    "exec.approval.resolve",
    "skills.bins",
    "node.pair.list",
    "node.pair.approve",
    "node.pair.reject",
    "node.pair.remove",
    "device.pair.list",
    "device.pair.approve",
    "device.pair.reject",
    "device.pair.remove",
    "device.token.rotate",
    "device.token.revoke",
    "node.list",
    "node.describe",
    "node.invoke",
    "node.invoke.result",
    "node.event",
    "node.pending.pull",
    "node.pending.drain",
    "node.pending.ack",
    "node.pluginSurface.refresh",
];

/// Methods that only the September release announces.
const SEPTEMBER_METHODS: &[&str] = &[
    "node.invoke.progress",
    "node.pluginTools.update",
    "node.skills.update",
];

/// Events that hello-ok announces on both releases.
const EVENTS: &[&str] = &[
    "presence",
    "tick",
    "shutdown",
    "health",
    "node.pair.requested",
    "node.pair.resolved",
    "node.invoke.request",
    "device.pair.requested",
    "device.pair.resolved",
    "exec.approval.requested",
    "exec.approval.resolved",
    "voicewake.changed",
    "voicewake.routing.changed",
];

/// Somebody who may come in.
struct Admission {
    method: AuthMethod,
    claim: Option<Claim>,
    bootstrap: Option<(String, BootstrapProfile)>,
}

impl Hub {
    /// Answers the first frame of a connection.
    pub(crate) fn handshake(
        &mut self,
        connection: ConnectionId,
        frame: &Value,
        context: &mut Context<Self>,
    ) {
        let params = frame.get("params").cloned().unwrap_or(Value::Null);
        let text = |name: &str| {
            frame
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned()
        };
        let (id, method) = (text("id"), text("method"));
        self.record(
            connection,
            Recorded::Request {
                id: id.clone(),
                method,
                params: params.into(),
            },
        );
        if self.faults.borrow().withhold_hello {
            return;
        }
        match self.check_connect(connection, frame) {
            Ok((request, admission)) => {
                let node = self.admit_client(connection, &request, &admission, context);
                self.welcome(connection, &id, &request, &admission, node);
            }
            Err(refusal) => {
                if let Some(error) = refusal.error {
                    self.deliver(connection, frame::response(&id, &Err(error.clone())));
                    self.record(connection, Recorded::Refused(error));
                }
                self.close(connection, refusal.close);
            }
        }
    }

    fn check_connect(
        &mut self,
        connection: ConnectionId,
        frame: &Value,
    ) -> Result<(ConnectRequest, Admission), Refusal> {
        let starting = self.faults.borrow().starting && !self.is_admitted_early(frame);
        let request = ConnectRequest::parse(self.release(), frame, starting)?;
        let Some(known) = self.connections.get(&connection) else {
            return Err(Refusal::silent(Close::new(CloseCode::Normal, "")));
        };
        let (peer, nonce) = (known.peer.clone(), known.nonce.clone());
        if peer.has_origin {
            return Err(origin_not_allowed());
        }
        let claim = match &request.device {
            Some(device) => Some(request.verify_device(device, &nonce, now_ms())?),
            None => None,
        };
        let method = self.check_credentials(&request, claim.as_ref(), &peer)?;
        let Some(claim) = claim else {
            let may_lack_device = request.role == Role::Operator
                && request.is_backend()
                && peer.is_local
                && (method.is_shared_secret() || method == AuthMethod::None);
            if !may_lack_device {
                return Err(device_required());
            }
            return Ok((
                request,
                Admission {
                    method,
                    claim: None,
                    bootstrap: None,
                },
            ));
        };
        let bootstrap = (method == AuthMethod::BootstrapToken)
            .then(|| {
                let token = request.auth.bootstrap_token()?;
                Some((token.to_owned(), self.devices.bootstrap_profile(token)?))
            })
            .flatten();
        let profile = bootstrap.as_ref().map(|(_, profile)| *profile);
        self.check_pairing(&request, &claim, &peer, profile)?;
        Ok((
            request,
            Admission {
                method,
                claim: Some(claim),
                bootstrap,
            },
        ))
    }

    /// Whether a starting gateway lets this node in all the same: the September release does so
    /// with nodes that have passed both gates (§13).
    fn is_admitted_early(&self, frame: &Value) -> bool {
        let device_id = frame
            .pointer("/params/device/id")
            .and_then(Value::as_str)
            .unwrap_or("");
        self.release() == Release::September
            && self.devices.is_paired(device_id)
            && self.surfaces.approved_surface(device_id).is_some()
    }

    fn check_credentials(
        &mut self,
        request: &ConnectRequest,
        claim: Option<&Claim>,
        peer: &Peer,
    ) -> Result<AuthMethod, Refusal> {
        let now = Instant::now();
        let release = self.release();
        let attempt = Attempt {
            mode: &self.options.auth,
            release,
            auth: &request.auth,
            address: peer.address,
            now,
        };
        let mut credentials = claim.map(|claim| self.devices.credentials_of(claim, now));
        let device = credentials
            .as_mut()
            .map(|credentials| credentials as &mut dyn DeviceCredentials);
        let has_device = claim.is_some();
        // Without a device the credentials are looked at only if there are any: what is missing
        // first is the device.
        if !has_device && request.auth.is_empty() && request.role == Role::Node {
            return Err(device_required());
        }
        authenticate(&attempt, &mut self.limiter, device)
            .map_err(|failure| Refusal::policy(failure.error(release, &request.auth, has_device)))
    }

    /// The first gate: is this device paired for what it asks, or may it be paired silently?
    fn check_pairing(
        &mut self,
        request: &ConnectRequest,
        claim: &Claim,
        peer: &Peer,
        bootstrap: Option<BootstrapProfile>,
    ) -> Result<(), Refusal> {
        let release = self.release();
        let Some(reason) = self.devices.missing(claim, release) else {
            return Ok(());
        };
        let known = self.devices.is_paired(claim.device_id.as_str());
        if let Some(via) = self.silent_pairing(request, claim, peer, reason, bootstrap) {
            self.devices.pair(claim, via, now_ms());
            self.touch();
            return Ok(());
        }
        let (pending, new) = self.devices.request(claim, now_ms());
        if new {
            self.broadcast(
                Some(Role::Operator),
                "device.pair.requested",
                &pending.describe(),
            );
        }
        self.touch();
        let roles = known
            .then(|| self.devices.approved_roles(&claim.device_id))
            .flatten();
        let waits_by_itself = bootstrap.filter(|_| release == Release::September);
        Err(Refusal::pairing(
            release,
            reason,
            &pending,
            roles,
            waits_by_itself,
        ))
    }

    /// By which rule a device is paired without an operator, if by any (§9.2).
    fn silent_pairing(
        &self,
        request: &ConnectRequest,
        claim: &Claim,
        peer: &Peer,
        reason: PairingReason,
        bootstrap: Option<BootstrapProfile>,
    ) -> Option<&'static str> {
        if request.role == Role::Operator {
            // An operator on this machine that knows the secret is who the gateway belongs to.
            let upgrade = matches!(
                reason,
                PairingReason::NotPaired | PairingReason::ScopeUpgrade
            );
            return (upgrade && peer.is_local && !self.devices.is_node(&claim.device_id))
                .then_some("silent");
        }
        if reason != PairingReason::NotPaired || !claim.scopes.is_empty() {
            return None;
        }
        let policy = &self.options.pairing;
        match (self.release(), bootstrap) {
            (Release::May, Some(_)) | (Release::September, Some(BootstrapProfile::Node)) => {
                return Some("bootstrap-token");
            }
            (Release::September, Some(BootstrapProfile::Mobile)) => return None,
            (Release::May | Release::September, None) => {}
        }
        if peer.is_local && policy.auto_approve_local {
            return Some("silent");
        }
        let trusted = policy
            .auto_approve_cidrs
            .iter()
            .any(|cidr| cidr.contains(peer.address));
        (trusted && !peer.address.is_loopback()).then_some("trusted-cidr")
    }

    /// Takes the client in; returns the node id if it is a node.
    fn admit_client(
        &mut self,
        connection: ConnectionId,
        request: &ConnectRequest,
        admission: &Admission,
        context: &mut Context<Self>,
    ) -> Option<String> {
        let role = request.role;
        let node = match (role, &admission.claim) {
            (Role::Node, Some(claim)) => Some(self.connect_node(request, claim)),
            (Role::Node | Role::Operator, _) => None,
        };
        let node_id = node.as_ref().map(|node| node.metadata.node_id.clone());
        let device = admission.claim.clone();
        let device_id = device
            .as_ref()
            .map(|device| device.device_id.as_str().to_owned());
        self.admit(connection, Client { role, device, node }, context);
        self.record(
            connection,
            Recorded::Admitted {
                role,
                device_id,
                method: admission.method,
            },
        );
        node_id
    }

    fn welcome(
        &mut self,
        connection: ConnectionId,
        request_id: &str,
        request: &ConnectRequest,
        admission: &Admission,
        node_id: Option<String>,
    ) {
        let hello = self.hello(connection, request, admission);
        if let (Release::May, Some((token, _))) = (self.release(), &admission.bootstrap) {
            self.devices.consume_bootstrap_token(token);
        }
        self.deliver(connection, frame::response(request_id, &Ok(hello)));
        let Some(node_id) = node_id else { return };
        if let Some(superseded) = self.online.insert(node_id, connection) {
            self.supersede_connection(superseded);
        }
        let wake = json!({ "triggers": ["openclaw", "claude", "computer"] });
        self.send_event(connection, "voicewake.changed", &wake);
        let routing = json!({ "config": {
            "version": 1, "defaultTarget": { "mode": "current" }, "routes": [], "updatedAtMs": 0,
        }});
        self.send_event(connection, "voicewake.routing.changed", &routing);
    }

    /// The second gate: what of the declared surface may be used now.
    fn connect_node(&mut self, request: &ConnectRequest, claim: &Claim) -> ConnectedNode {
        let release = self.release();
        let platform =
            Platform::classify(release, &request.platform, request.device_family.as_deref());
        let metadata = NodeMetadata {
            node_id: claim.device_id.as_str().to_owned(),
            client_id: request.client_id.clone(),
            client_mode: request.client_mode.clone(),
            display_name: request.display_name.clone(),
            platform: platform.name.clone(),
            version: request.client_version.clone(),
            device_family: platform.family.clone(),
        };
        let declared = admitted(release, &platform, request.surface.clone());
        let effective = self.surfaces.reconcile(&metadata, &declared, now_ms());
        if let (true, Some(pending)) = (effective.newly_pending, &effective.pending) {
            let described = pending.describe();
            self.broadcast(Some(Role::Operator), "node.pair.requested", &described);
        }
        ConnectedNode {
            metadata,
            declared,
            effective: effective.surface,
            approved: effective.approved,
            path_env: request.path_env.clone(),
            connected_at_ms: now_ms(),
        }
    }

    fn hello(
        &self,
        connection: ConnectionId,
        request: &ConnectRequest,
        admission: &Admission,
    ) -> Value {
        let september = self.release() == Release::September;
        let methods: Vec<&str> = METHODS
            .iter()
            .chain(SEPTEMBER_METHODS.iter().filter(|_| september))
            .copied()
            .collect();
        let mut server = json!({
            "version": self.release().version(),
            "connId": format!("{}-{connection}", self.boot_id),
        });
        let mut features = json!({ "methods": methods, "events": EVENTS });
        let mut auth = json!({ "role": request.role.name(), "scopes": request.scopes });
        if let Some(token) = admission
            .claim
            .as_ref()
            .and_then(|claim| self.devices.issued_token(claim))
            && let Some(auth) = auth.as_object_mut()
        {
            auth.insert(
                "deviceToken".to_owned(),
                token.secret.expose_secret().into(),
            );
            auth.insert("issuedAtMs".to_owned(), token.issued_at_ms.into());
        }
        if september
            && let (Some(server), Some(features), Some(auth)) = (
                server.as_object_mut(),
                features.as_object_mut(),
                auth.as_object_mut(),
            )
        {
            server.insert("bootId".to_owned(), self.boot_id.to_string().into());
            server.insert("buildId".to_owned(), "2026.9.6-loopback".into());
            features.insert(
                "capabilities".to_owned(),
                json!(["gateway-restart-target-safe-v1", "model-catalog-snapshot"]),
            );
            auth.insert("method".to_owned(), admission.method.name().into());
        }
        json!({
            "type": "hello-ok",
            "protocol": crate::connect::PROTOCOL,
            "server": server,
            "features": features,
            "snapshot": {
                "presence": [],
                "health": { "ok": true, "ts": now_ms() },
                "stateVersion": { "presence": 1, "health": 1 },
            },
            "auth": auth,
            "policy": self.policy(),
        })
    }
}
