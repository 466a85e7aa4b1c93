//! The first gate: which devices are paired, which ask to be, and the tokens they hold.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::identity::DeviceId;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::{AuthFailure, DeviceCredentials};
use crate::options::Release;

/// What a connecting device says about itself and asks for.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) device_id: DeviceId,
    pub(crate) public_key: String,
    pub(crate) role: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) platform: String,
    pub(crate) device_family: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_mode: String,
}

/// Why a device may not connect yet; `reason` of PAIRING_REQUIRED (§9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PairingReason {
    NotPaired,
    RoleUpgrade,
    ScopeUpgrade,
    MetadataUpgrade,
}

impl PairingReason {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NotPaired => "not-paired",
            Self::RoleUpgrade => "role-upgrade",
            Self::ScopeUpgrade => "scope-upgrade",
            Self::MetadataUpgrade => "metadata-upgrade",
        }
    }

    pub(crate) const fn requirement(self) -> &'static str {
        match self {
            Self::NotPaired => "device is not approved yet",
            Self::RoleUpgrade => "device is asking for a higher role than currently approved",
            Self::ScopeUpgrade => "device is asking for more scopes than currently approved",
            Self::MetadataUpgrade => "device identity changed and must be re-approved",
        }
    }

    pub(crate) const fn remediation(self) -> &'static str {
        match self {
            Self::NotPaired => "Approve this device from the pending pairing requests.",
            Self::RoleUpgrade => {
                "Review the requested role upgrade, then approve the pending request."
            }
            Self::ScopeUpgrade => "Review the requested scopes, then approve the pending upgrade.",
            Self::MetadataUpgrade => {
                "Review the refreshed device details, then approve the pending request."
            }
        }
    }
}

/// A token that a device holds for one role.
#[derive(Debug, Clone)]
struct DeviceToken {
    secret: SecretString,
    scopes: Vec<String>,
    created_at_ms: u64,
    rotated_at_ms: Option<u64>,
    revoked_at_ms: Option<u64>,
}

impl DeviceToken {
    fn is_active(&self) -> bool {
        self.revoked_at_ms.is_none()
    }

    fn describe(&self, role: &str) -> Value {
        let mut token = json!({
            "role": role,
            "scopes": self.scopes,
            "createdAtMs": self.created_at_ms,
        });
        for (name, time) in [
            ("rotatedAtMs", self.rotated_at_ms),
            ("revokedAtMs", self.revoked_at_ms),
        ] {
            if let (Some(time), Some(token)) = (time, token.as_object_mut()) {
                token.insert(name.to_owned(), time.into());
            }
        }
        token
    }
}

/// A paired device.
#[derive(Debug, Clone)]
struct Device {
    claim: Claim,
    roles: Vec<String>,
    approved_via: &'static str,
    created_at_ms: u64,
    approved_at_ms: u64,
    tokens: BTreeMap<String, DeviceToken>,
}

/// A device that waits for an operator.
#[derive(Debug, Clone)]
pub(crate) struct PendingDevice {
    pub(crate) request_id: String,
    pub(crate) claim: Claim,
    is_repair: bool,
    at_ms: u64,
}

/// A setup code's secret (§7.7).
#[derive(Debug, Clone)]
struct BootstrapToken {
    device_id: Option<DeviceId>,
    profile: BootstrapProfile,
    expires: Instant,
}

/// What a setup code was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootstrapProfile {
    /// For a node host: it is paired silently.
    Node,
    /// For a phone; on the September release a node host still waits for an operator.
    Mobile,
}

/// How long a setup code is valid (§7.7).
const BOOTSTRAP_LIFETIME: Duration = Duration::from_secs(600);

/// The token that hello-ok hands over.
#[derive(Debug, Clone)]
pub(crate) struct IssuedToken {
    pub(crate) secret: SecretString,
    pub(crate) issued_at_ms: u64,
}

/// What became of a pending request.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) device_id: DeviceId,
    pub(crate) answer: Value,
}

/// All devices a gateway knows. Lives in memory only, and survives a restart of the server.
#[derive(Debug, Default)]
pub(crate) struct DeviceRegistry {
    paired: HashMap<DeviceId, Device>,
    pending: BTreeMap<String, PendingDevice>,
    bootstrap: HashMap<String, BootstrapToken>,
}

fn new_secret() -> SecretString {
    // Two v4 UUIDs are 244 random bits; only the length of the text, 43 characters, is upstream's.
    let mut bytes = [0_u8; 32];
    let (first, second) = bytes.split_at_mut(16);
    first.copy_from_slice(Uuid::new_v4().as_bytes());
    second.copy_from_slice(Uuid::new_v4().as_bytes());
    SecretString::from(URL_SAFE_NO_PAD.encode(bytes))
}

fn folded(text: Option<&str>) -> String {
    text.unwrap_or("").trim().to_ascii_lowercase()
}

impl Device {
    fn describe(&self) -> Value {
        let mut device = describe_claim(&self.claim);
        if let Some(device) = device.as_object_mut() {
            device.insert("roles".to_owned(), json!(self.roles));
            device.insert("approvedVia".to_owned(), self.approved_via.into());
            device.insert("createdAtMs".to_owned(), self.created_at_ms.into());
            device.insert("approvedAtMs".to_owned(), self.approved_at_ms.into());
            let tokens: Vec<Value> = self
                .tokens
                .iter()
                .map(|(role, token)| token.describe(role))
                .collect();
            device.insert("tokens".to_owned(), Value::Array(tokens));
        }
        device
    }

    /// Whether the claim still describes the machine that was approved (§5.1, metadata pinning).
    fn is_same_machine(&self, claim: &Claim, release: Release) -> bool {
        let same_platform = folded(Some(&self.claim.platform)) == folded(Some(&claim.platform));
        let pinned_family = folded(self.claim.device_family.as_deref());
        let claimed_family = folded(claim.device_family.as_deref());
        let family_may_be_absent = release == Release::September && claimed_family.is_empty();
        same_platform
            && (pinned_family.is_empty() || pinned_family == claimed_family || family_may_be_absent)
    }

    fn has_active_token(&self, role: &str) -> bool {
        self.tokens.get(role).is_some_and(DeviceToken::is_active)
    }

    fn grant(&mut self, claim: &Claim, now_ms: u64) {
        if !self.roles.contains(&claim.role) {
            self.roles.push(claim.role.clone());
        }
        let token = self
            .tokens
            .get(&claim.role)
            .filter(|token| token.is_active());
        if token.is_none_or(|token| !covers(&token.scopes, &claim.scopes)) {
            self.tokens.insert(
                claim.role.clone(),
                DeviceToken {
                    secret: new_secret(),
                    scopes: claim.scopes.clone(),
                    created_at_ms: now_ms,
                    rotated_at_ms: None,
                    revoked_at_ms: None,
                },
            );
        }
        self.claim = claim.clone();
        self.approved_at_ms = now_ms;
    }
}

fn covers(granted: &[String], requested: &[String]) -> bool {
    requested.iter().all(|scope| granted.contains(scope))
}

fn describe_claim(claim: &Claim) -> Value {
    let mut device = json!({
        "deviceId": claim.device_id,
        "publicKey": claim.public_key,
        "displayName": claim.display_name,
        "platform": claim.platform,
        "deviceFamily": claim.device_family,
        "clientId": claim.client_id,
        "clientMode": claim.client_mode,
        "role": claim.role,
        "roles": [claim.role],
        "scopes": claim.scopes,
    });
    if let Some(device) = device.as_object_mut() {
        device.retain(|_, value| !value.is_null());
    }
    device
}

impl PendingDevice {
    pub(crate) fn describe(&self) -> Value {
        let mut pending = json!({ "requestId": self.request_id });
        if let (Some(pending), Value::Object(claim)) =
            (pending.as_object_mut(), describe_claim(&self.claim))
        {
            pending.extend(claim);
            pending.insert("silent".to_owned(), false.into());
            pending.insert("isRepair".to_owned(), self.is_repair.into());
            pending.insert("ts".to_owned(), self.at_ms.into());
        }
        pending
    }
}

impl DeviceRegistry {
    /// What stands between the claim and being let in, if anything.
    pub(crate) fn missing(&self, claim: &Claim, release: Release) -> Option<PairingReason> {
        let Some(device) = self.paired.get(&claim.device_id) else {
            return Some(PairingReason::NotPaired);
        };
        if !device.is_same_machine(claim, release) {
            return Some(PairingReason::MetadataUpgrade);
        }
        let Some(token) = device
            .tokens
            .get(&claim.role)
            .filter(|token| token.is_active())
        else {
            return Some(PairingReason::RoleUpgrade);
        };
        (!covers(&token.scopes, &claim.scopes)).then_some(PairingReason::ScopeUpgrade)
    }

    /// Files a request for an operator, or finds the one that already asks for the same thing.
    /// The boolean says whether it is new.
    pub(crate) fn request(&mut self, claim: &Claim, now_ms: u64) -> (PendingDevice, bool) {
        // A request that asks for the same role and scopes with the same key stays, refreshed
        // (§9.1); any other request of this device is superseded.
        let same = self.pending.values().find(|pending| {
            pending.claim.device_id == claim.device_id
                && pending.claim.public_key == claim.public_key
                && pending.claim.role == claim.role
                && covers(&pending.claim.scopes, &claim.scopes)
        });
        if let Some(same) = same {
            let mut refreshed = same.clone();
            let scopes = std::mem::take(&mut refreshed.claim.scopes);
            refreshed.claim = Claim {
                scopes,
                ..claim.clone()
            };
            self.pending
                .insert(refreshed.request_id.clone(), refreshed.clone());
            return (refreshed, false);
        }
        self.pending
            .retain(|_, pending| pending.claim.device_id != claim.device_id);
        let pending = PendingDevice {
            request_id: Uuid::new_v4().to_string(),
            claim: claim.clone(),
            is_repair: self.paired.contains_key(&claim.device_id),
            at_ms: now_ms,
        };
        self.pending
            .insert(pending.request_id.clone(), pending.clone());
        (pending, true)
    }

    /// Gives a pending request of this device a new id, as a real gateway does when the device
    /// asks for something else; returns the new id.
    pub(crate) fn supersede(&mut self, device_id: &str) -> Option<String> {
        let old = self
            .pending
            .values()
            .find(|pending| pending.claim.device_id.as_str() == device_id)?;
        let mut pending = old.clone();
        self.pending.remove(&pending.request_id);
        pending.request_id = Uuid::new_v4().to_string();
        let request_id = pending.request_id.clone();
        self.pending.insert(request_id.clone(), pending);
        Some(request_id)
    }

    /// Pairs without asking.
    pub(crate) fn pair(&mut self, claim: &Claim, approved_via: &'static str, now_ms: u64) {
        self.pending
            .retain(|_, pending| pending.claim.device_id != claim.device_id);
        let device = self
            .paired
            .entry(claim.device_id.clone())
            .or_insert_with(|| Device {
                claim: claim.clone(),
                roles: Vec::new(),
                approved_via,
                created_at_ms: now_ms,
                approved_at_ms: now_ms,
                tokens: BTreeMap::new(),
            });
        device.grant(claim, now_ms);
    }

    pub(crate) fn approve(&mut self, request_id: &str, now_ms: u64) -> Option<Resolved> {
        let pending = self.pending.remove(request_id)?;
        self.pair(&pending.claim, "owner", now_ms);
        let device = self.paired.get(&pending.claim.device_id)?;
        Some(Resolved {
            answer: json!({ "requestId": request_id, "device": device.describe() }),
            device_id: pending.claim.device_id,
        })
    }

    pub(crate) fn reject(&mut self, request_id: &str) -> Option<Resolved> {
        let pending = self.pending.remove(request_id)?;
        Some(Resolved {
            answer: json!({ "requestId": request_id, "deviceId": pending.claim.device_id }),
            device_id: pending.claim.device_id,
        })
    }

    pub(crate) fn remove(&mut self, device_id: &str) -> Option<DeviceId> {
        let id = self
            .paired
            .keys()
            .find(|id| id.as_str() == device_id)?
            .clone();
        self.paired.remove(&id);
        Some(id)
    }

    fn token_mut(&mut self, device_id: &str, role: &str) -> Option<(&DeviceId, &mut DeviceToken)> {
        let (id, device) = self
            .paired
            .iter_mut()
            .find(|(id, _)| id.as_str() == device_id)?;
        Some((id, device.tokens.get_mut(role)?))
    }

    pub(crate) fn rotate_token(
        &mut self,
        device_id: &str,
        role: &str,
        now_ms: u64,
    ) -> Option<Resolved> {
        let (id, token) = self.token_mut(device_id, role)?;
        token.secret = new_secret();
        token.rotated_at_ms = Some(now_ms);
        token.revoked_at_ms = None;
        Some(Resolved {
            answer: json!({
                "deviceId": id, "role": role, "scopes": token.scopes, "rotatedAtMs": now_ms,
                "tokenDelivery": "withheld-cross-device",
            }),
            device_id: id.clone(),
        })
    }

    pub(crate) fn revoke_token(
        &mut self,
        device_id: &str,
        role: &str,
        now_ms: u64,
    ) -> Option<Resolved> {
        let (id, token) = self.token_mut(device_id, role)?;
        token.revoked_at_ms = Some(now_ms);
        Some(Resolved {
            answer: json!({ "deviceId": id, "role": role, "revokedAtMs": now_ms }),
            device_id: id.clone(),
        })
    }

    /// The token that hello-ok carries: the current one, unchanged on every reconnect (§7.4).
    pub(crate) fn issued_token(&self, claim: &Claim) -> Option<IssuedToken> {
        let token = self.paired.get(&claim.device_id)?.tokens.get(&claim.role)?;
        token.is_active().then(|| IssuedToken {
            secret: token.secret.clone(),
            issued_at_ms: token.rotated_at_ms.unwrap_or(token.created_at_ms),
        })
    }

    pub(crate) fn approved_roles(&self, device_id: &DeviceId) -> Option<Vec<String>> {
        Some(self.paired.get(device_id)?.roles.clone())
    }

    pub(crate) fn approved_at_ms(&self, device_id: &DeviceId) -> Option<u64> {
        Some(self.paired.get(device_id)?.approved_at_ms)
    }

    pub(crate) fn is_paired(&self, device_id: &str) -> bool {
        self.paired.keys().any(|id| id.as_str() == device_id)
    }

    /// Whether the device is paired as a node.
    pub(crate) fn is_node(&self, device_id: &DeviceId) -> bool {
        self.node_ids().any(|id| id == device_id)
    }

    /// Ids of everybody who is paired as a node.
    pub(crate) fn node_ids(&self) -> impl Iterator<Item = &DeviceId> {
        self.paired
            .iter()
            .filter(|(_, device)| device.roles.iter().any(|role| role == "node"))
            .map(|(id, _)| id)
    }

    pub(crate) fn claim(&self, device_id: &DeviceId) -> Option<&Claim> {
        Some(&self.paired.get(device_id)?.claim)
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = &PendingDevice> {
        self.pending.values()
    }

    /// The answer to `device.pair.list`; `connected` says which devices are online.
    pub(crate) fn list(&self, connected: impl Fn(&DeviceId) -> bool) -> Value {
        let pending: Vec<Value> = self.pending.values().map(PendingDevice::describe).collect();
        let mut devices: Vec<&Device> = self.paired.values().collect();
        devices.sort_by_key(|device| (device.created_at_ms, device.claim.device_id.as_str()));
        let paired: Vec<Value> = devices
            .into_iter()
            .map(|device| {
                let mut described = device.describe();
                if let Some(described) = described.as_object_mut() {
                    let online = connected(&device.claim.device_id);
                    described.insert("connected".to_owned(), online.into());
                }
                described
            })
            .collect();
        json!({ "pending": pending, "paired": paired })
    }

    /// Makes the secret of a setup code.
    pub(crate) fn mint_bootstrap_token(
        &mut self,
        profile: BootstrapProfile,
        now: Instant,
    ) -> SecretString {
        let secret = new_secret();
        self.bootstrap.retain(|_, token| token.expires > now);
        self.bootstrap.insert(
            secret.expose_secret().to_owned(),
            BootstrapToken {
                device_id: None,
                profile,
                expires: now + BOOTSTRAP_LIFETIME,
            },
        );
        secret
    }

    pub(crate) fn bootstrap_profile(&self, token: &str) -> Option<BootstrapProfile> {
        Some(self.bootstrap.get(token)?.profile)
    }

    /// Uses a setup code up, as the May release does once a node is paired with it.
    pub(crate) fn consume_bootstrap_token(&mut self, token: &str) {
        self.bootstrap.remove(token);
    }

    /// The view that authentication needs of one device.
    pub(crate) fn credentials_of<'a>(
        &'a mut self,
        claim: &'a Claim,
        now: Instant,
    ) -> impl DeviceCredentials + 'a {
        ClaimCredentials {
            registry: self,
            claim,
            now,
        }
    }
}

struct ClaimCredentials<'a> {
    registry: &'a mut DeviceRegistry,
    claim: &'a Claim,
    now: Instant,
}

impl DeviceCredentials for ClaimCredentials<'_> {
    fn check_device_token(&self, token: &str) -> Result<(), AuthFailure> {
        let current = self
            .registry
            .paired
            .get(&self.claim.device_id)
            .filter(|device| device.has_active_token(&self.claim.role))
            .and_then(|device| device.tokens.get(&self.claim.role))
            .filter(|current| current.secret.expose_secret() == token)
            .ok_or(AuthFailure::DeviceTokenMismatch)?;
        if covers(&current.scopes, &self.claim.scopes) {
            Ok(())
        } else {
            Err(AuthFailure::ScopeMismatch)
        }
    }

    fn check_bootstrap_token(&mut self, token: &str) -> Result<(), AuthFailure> {
        let bootstrap = self
            .registry
            .bootstrap
            .get_mut(token)
            .filter(|bootstrap| bootstrap.expires > self.now)
            .ok_or(AuthFailure::BootstrapTokenInvalid)?;
        let owner = bootstrap
            .device_id
            .get_or_insert_with(|| self.claim.device_id.clone());
        if *owner == self.claim.device_id {
            Ok(())
        } else {
            Err(AuthFailure::BootstrapTokenInvalid)
        }
    }
}
