//! The handshake as a gateway sees it: the exact shape of connect params, and the checks in the
//! order of the real gateways (wire protocol §5, §6, §9).

use protocol::close::{Close, CloseCode};
use protocol::frame::GatewayError;
use protocol::identity::{DevicePublicKey, IdentityError, SignaturePayload};
use serde_json::{Value, json};

use crate::auth::PresentedAuth;
use crate::options::Release;
use crate::pairing::{BootstrapProfile, Claim, PairingReason, PendingDevice};
use crate::schema::{Member, Shape, validate};
use crate::surface::Surface;

/// The protocol number of both releases.
pub(crate) const PROTOCOL: i64 = 4;

/// How far `signedAt` may lie from the gateway's clock, in milliseconds (§4).
const SIGNATURE_AGE_MS: u64 = 120_000;

/// Longest reason that fits into a close frame, in bytes (RFC 6455 §5.5).
const MAX_CLOSE_REASON_BYTES: usize = 123;

const CLIENT_IDS: &[&str] = &[
    "webchat-ui",
    "openclaw-control-ui",
    "openclaw-browser-copilot",
    "openclaw-tui",
    "webchat",
    "cli",
    "gateway-client",
    "openclaw-macos",
    "openclaw-linux",
    "openclaw-ios",
    "openclaw-watchos",
    "openclaw-android",
    "node-host",
    "openclaw-worker",
    "test",
    "fingerprint",
    "openclaw-probe",
];

const CLIENT_MODES: &[&str] = &[
    "webchat", "cli", "ui", "backend", "node", "worker", "probe", "test",
];

const NON_EMPTY: Shape = Shape::Text(1);

/// A request frame (§2).
pub(crate) const REQUEST_SHAPE: Shape = Shape::Object(&[
    Member::required("type", Shape::Constant("req")),
    Member::required("id", NON_EMPTY),
    Member::required("method", NON_EMPTY),
    Member::optional("params", Shape::Any),
    Member::since_september("expectedProfileId", NON_EMPTY),
    Member::since_september("traceparent", NON_EMPTY),
]);

/// Connect params (§5).
const CONNECT_SHAPE: Shape = Shape::Object(&[
    Member::required("minProtocol", Shape::Integer(1)),
    Member::required("maxProtocol", Shape::Integer(1)),
    Member::required("client", CLIENT_SHAPE),
    Member::optional("caps", Shape::List(&NON_EMPTY)),
    Member::optional("commands", Shape::List(&NON_EMPTY)),
    Member::optional("permissions", Shape::Map(&Shape::Boolean)),
    Member::optional("pathEnv", Shape::Text(0)),
    Member::optional("role", NON_EMPTY),
    Member::optional("scopes", Shape::List(&NON_EMPTY)),
    Member::optional("device", DEVICE_SHAPE),
    Member::optional("auth", AUTH_SHAPE),
    Member::optional("locale", Shape::Text(0)),
    Member::optional("userAgent", Shape::Text(0)),
    Member::since_september("computerUse", Shape::Any),
    Member::since_september("workerRuns", WORKER_RUNS_SHAPE),
    Member::since_september("modelCatalog", Shape::Any),
]);

const CLIENT_SHAPE: Shape = Shape::Object(&[
    Member::required("id", Shape::OneOf(CLIENT_IDS)),
    Member::optional("displayName", NON_EMPTY),
    Member::required("version", NON_EMPTY),
    Member::since_september("buildId", Shape::BoundedText(1, 96)),
    Member::since_september("timeZone", Shape::BoundedText(1, 64)),
    Member::required("platform", NON_EMPTY),
    Member::optional("deviceFamily", NON_EMPTY),
    Member::optional("modelIdentifier", NON_EMPTY),
    Member::required("mode", Shape::OneOf(CLIENT_MODES)),
    Member::optional("instanceId", NON_EMPTY),
]);

const DEVICE_SHAPE: Shape = Shape::Object(&[
    Member::required("id", NON_EMPTY),
    Member::required("publicKey", NON_EMPTY),
    Member::required("signature", NON_EMPTY),
    Member::required("signedAt", Shape::Integer(0)),
    Member::required("nonce", NON_EMPTY),
]);

const AUTH_SHAPE: Shape = Shape::Object(&[
    Member::optional("token", Shape::Text(0)),
    Member::optional("bootstrapToken", Shape::Text(0)),
    Member::optional("deviceToken", Shape::Text(0)),
    Member::optional("password", Shape::Text(0)),
    Member::optional("approvalRuntimeToken", Shape::Text(0)),
    Member::since_september("agentRuntimeIdentityToken", Shape::Text(0)),
]);

const WORKER_RUNS_SHAPE: Shape = Shape::Object(&[Member::required("bundleHash", NON_EMPTY)]);

/// Why a handshake ends: the answer, if the request could be answered, and the close frame.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) error: Option<GatewayError>,
    pub(crate) close: Close,
}

impl Refusal {
    fn invalid_request(message: String, details: Value) -> Self {
        let error = GatewayError {
            code: "INVALID_REQUEST".to_owned(),
            message,
            details,
            ..GatewayError::default()
        };
        Self::policy(error)
    }

    /// A refusal whose close frame repeats the message, as most do.
    pub(crate) fn policy(error: GatewayError) -> Self {
        let close = Close::new(CloseCode::PolicyViolation, fitting(&error.message));
        Self {
            error: Some(error),
            close,
        }
    }

    /// The end of a handshake that cannot be answered.
    pub(crate) fn silent(close: Close) -> Self {
        Self { error: None, close }
    }

    /// The answer of a gateway that is still starting (§9).
    pub(crate) fn starting() -> Self {
        Self {
            error: Some(GatewayError {
                code: "UNAVAILABLE".to_owned(),
                message: "gateway starting; retry shortly".to_owned(),
                retryable: Some(true),
                retry_after_ms: Some(500),
                details: json!({ "reason": "startup-sidecars" }),
            }),
            close: Close::new(CloseCode::TryAgainLater, "gateway starting"),
        }
    }

    /// The refusal of somebody who waits for an operator (§9.1).
    pub(crate) fn pairing(
        release: Release,
        reason: PairingReason,
        pending: &PendingDevice,
        approved_roles: Option<Vec<String>>,
        bootstrap: Option<BootstrapProfile>,
    ) -> Self {
        let claim = &pending.claim;
        let mut details = json!({
            "code": "PAIRING_REQUIRED",
            "reason": reason.name(),
            "requestId": pending.request_id,
            "remediationHint": reason.remediation(),
        });
        if let Some(details) = details.as_object_mut() {
            if bootstrap.is_some() {
                details.insert("recommendedNextStep".to_owned(), "wait_then_retry".into());
                details.insert("retryable".to_owned(), true.into());
                details.insert("pauseReconnect".to_owned(), false.into());
            }
            details.insert("deviceId".to_owned(), json!(claim.device_id));
            details.insert("requestedRole".to_owned(), claim.role.clone().into());
            if release == Release::May || !claim.scopes.is_empty() {
                details.insert("requestedScopes".to_owned(), json!(claim.scopes));
            }
            if let Some(roles) = approved_roles {
                details.insert("approvedRoles".to_owned(), json!(roles));
            }
        }
        let message = format!("pairing required: {}", reason.requirement());
        let close = format!("{message} (requestId: {})", pending.request_id);
        Self {
            close: Close::new(CloseCode::PolicyViolation, fitting(&close)),
            error: Some(GatewayError {
                code: "NOT_PAIRED".to_owned(),
                message,
                details,
                ..GatewayError::default()
            }),
        }
    }
}

/// The longest prefix of a close reason that a close frame holds.
fn fitting(reason: &str) -> &str {
    reason
        .get(..reason.floor_char_boundary(MAX_CLOSE_REASON_BYTES))
        .unwrap_or(reason)
}

/// A role somebody connects as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs what it is asked to run.
    Node,
    /// Asks.
    Operator,
}

impl Role {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Operator => "operator",
        }
    }
}

/// A connect request whose shape, protocol and role are in order.
#[derive(Debug)]
pub(crate) struct ConnectRequest {
    pub(crate) role: Role,
    pub(crate) scopes: Vec<String>,
    pub(crate) client_id: String,
    pub(crate) client_mode: String,
    pub(crate) client_version: String,
    pub(crate) display_name: Option<String>,
    pub(crate) platform: String,
    pub(crate) device_family: Option<String>,
    pub(crate) path_env: Option<String>,
    pub(crate) surface: Surface,
    pub(crate) auth: PresentedAuth,
    pub(crate) device: Option<Device>,
}

/// The device proof of a connect request.
#[derive(Debug)]
pub(crate) struct Device {
    id: String,
    pub(crate) public_key: String,
    signature: String,
    signed_at_ms: u64,
    nonce: String,
}

impl ConnectRequest {
    /// Parses the first frame of a connection. A gateway that is still starting looks at the
    /// shape only (§6, check order).
    pub(crate) fn parse(release: Release, frame: &Value, starting: bool) -> Result<Self, Refusal> {
        if validate(release, REQUEST_SHAPE, frame).is_err() {
            let close = Close::new(CloseCode::PolicyViolation, "invalid request frame");
            return Err(Refusal::silent(close));
        }
        if frame.get("method").and_then(Value::as_str) != Some("connect") {
            return Err(Refusal::invalid_request(
                "invalid handshake: first request must be connect".to_owned(),
                Value::Null,
            ));
        }
        let params = frame.get("params").unwrap_or(&Value::Null);
        validate(release, CONNECT_SHAPE, params).map_err(|why| {
            Refusal::invalid_request(format!("invalid connect params: {why}"), Value::Null)
        })?;
        if release == Release::September && params.get("computerUse") == Some(&json!({})) {
            // The real gateway trips over it and closes without an answer (§5).
            return Err(Refusal::silent(Close::new(CloseCode::Normal, "")));
        }
        if starting {
            return Err(Refusal::starting());
        }
        check_protocol(release, params)?;
        Self::read(params)
    }

    fn read(params: &Value) -> Result<Self, Refusal> {
        let text = |pointer: &str| {
            params
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let list = |name: &str| -> Vec<String> {
            let items = params.get(name).and_then(Value::as_array);
            items
                .into_iter()
                .flatten()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect()
        };
        let role = match params.get("role").and_then(Value::as_str) {
            Some("node") => Role::Node,
            Some("operator") | None => Role::Operator,
            Some(_) => {
                return Err(Refusal::invalid_request(
                    "invalid role".to_owned(),
                    Value::Null,
                ));
            }
        };
        let permissions = params.get("permissions").and_then(Value::as_object);
        let device = params.get("device").map(|_| Device {
            id: text("/device/id").unwrap_or_default(),
            public_key: text("/device/publicKey").unwrap_or_default(),
            signature: text("/device/signature").unwrap_or_default(),
            signed_at_ms: params
                .pointer("/device/signedAt")
                .and_then(Value::as_u64)
                .unwrap_or_default(),
            nonce: text("/device/nonce").unwrap_or_default(),
        });
        Ok(Self {
            role,
            scopes: list("scopes"),
            client_id: text("/client/id").unwrap_or_default(),
            client_mode: text("/client/mode").unwrap_or_default(),
            client_version: text("/client/version").unwrap_or_default(),
            display_name: text("/client/displayName"),
            platform: text("/client/platform").unwrap_or_default(),
            device_family: text("/client/deviceFamily"),
            path_env: text("/pathEnv"),
            surface: Surface {
                caps: list("caps"),
                commands: list("commands"),
                permissions: permissions
                    .into_iter()
                    .flatten()
                    .filter_map(|(name, granted)| Some((name.clone(), granted.as_bool()?)))
                    .collect(),
            },
            auth: PresentedAuth::parse(params.get("auth")),
            device,
        })
    }

    /// Checks the device proof: id, age, nonce, key, signature (§6, check order).
    pub(crate) fn verify_device(
        &self,
        device: &Device,
        nonce: &str,
        now_ms: u64,
    ) -> Result<Claim, Refusal> {
        let refuse = |code: &str, reason: &str, message: &str| {
            Refusal::invalid_request(
                message.to_owned(),
                json!({ "code": code, "reason": reason }),
            )
        };
        // A key that is none has no id, so it is the id that does not match.
        let key = DevicePublicKey::parse(&device.public_key)
            .ok()
            .filter(|key| key.device_id().as_str() == device.id);
        let Some(key) = key else {
            return Err(refuse(
                "DEVICE_AUTH_DEVICE_ID_MISMATCH",
                "device-id-mismatch",
                "device identity mismatch",
            ));
        };
        if now_ms.abs_diff(device.signed_at_ms) > SIGNATURE_AGE_MS {
            return Err(refuse(
                "DEVICE_AUTH_SIGNATURE_EXPIRED",
                "device-signature-stale",
                "device signature expired",
            ));
        }
        let signed_nonce = device.nonce.trim();
        if signed_nonce.is_empty() {
            return Err(refuse(
                "DEVICE_AUTH_NONCE_REQUIRED",
                "device-nonce-missing",
                "device nonce required",
            ));
        }
        if signed_nonce != nonce {
            return Err(refuse(
                "DEVICE_AUTH_NONCE_MISMATCH",
                "device-nonce-mismatch",
                "device nonce mismatch",
            ));
        }
        let payload = SignaturePayload {
            device_id: &device.id,
            client_id: &self.client_id,
            client_mode: &self.client_mode,
            role: self.role.name(),
            scopes: &self.scopes,
            signed_at_ms: device.signed_at_ms,
            token: self.auth.signed_token(),
            nonce,
            platform: &self.platform,
            device_family: self.device_family.as_deref().unwrap_or(""),
        };
        let signed = |payload: String| -> Result<(), IdentityError> {
            key.verify(&payload, &device.signature)
        };
        signed(payload.v3())
            .or_else(|_| signed(payload.v2()))
            .map_err(|_| {
                refuse(
                    "DEVICE_AUTH_SIGNATURE_INVALID",
                    "device-signature",
                    "device signature invalid",
                )
            })?;
        Ok(Claim {
            device_id: key.device_id(),
            public_key: device.public_key.clone(),
            role: self.role.name().to_owned(),
            scopes: self.scopes.clone(),
            display_name: self.display_name.clone(),
            platform: self.platform.clone(),
            device_family: self.device_family.clone(),
            client_id: self.client_id.clone(),
            client_mode: self.client_mode.clone(),
        })
    }

    /// Whether this is the gateway's own helper, which needs no device on loopback with the
    /// shared secret.
    pub(crate) fn is_backend(&self) -> bool {
        self.client_id == "gateway-client" && self.client_mode == "backend"
    }
}

/// The refusal of a role that cannot do without a device.
pub(crate) fn device_required() -> Refusal {
    Refusal::policy(GatewayError {
        code: "NOT_PAIRED".to_owned(),
        message: "device identity required".to_owned(),
        details: json!({ "code": "DEVICE_IDENTITY_REQUIRED" }),
        ..GatewayError::default()
    })
}

/// The refusal of a browser's Origin header (§1.2).
pub(crate) fn origin_not_allowed() -> Refusal {
    Refusal::invalid_request(
        "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)"
            .to_owned(),
        json!({ "code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": "origin not allowed" }),
    )
}

fn check_protocol(release: Release, params: &Value) -> Result<(), Refusal> {
    let number = |name: &str| params.get(name).and_then(Value::as_i64).unwrap_or_default();
    let (least, most) = (number("minProtocol"), number("maxProtocol"));
    let node = params.pointer("/client/mode").and_then(Value::as_str) == Some("node");
    let oldest = match release {
        Release::September if node => PROTOCOL - 1,
        Release::May | Release::September => PROTOCOL,
    };
    if least <= PROTOCOL && most >= oldest {
        return Ok(());
    }
    let probe = match release {
        Release::May => PROTOCOL,
        Release::September => PROTOCOL - 1,
    };
    let mut refusal = Refusal::invalid_request(
        "protocol mismatch".to_owned(),
        json!({
            "code": "PROTOCOL_MISMATCH",
            "clientMinProtocol": least,
            "clientMaxProtocol": most,
            "expectedProtocol": PROTOCOL,
            "minimumProbeProtocol": probe,
        }),
    );
    refusal.close = Close::new(CloseCode::ProtocolError, "protocol mismatch");
    Err(refusal)
}
