//! What a node proves and presents is judged exactly as the recorded gateways do.

#![cfg(test)]

mod common;

use common::{Closed, Introduction, RawNode, answer, identity, of, start};
use openclaw_node_gateway::{AuthMode, BootstrapProfile, GatewayOptions, RateLimit, Release};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

/// What a case changes in finished connect params.
type Edit = fn(&mut Value);

#[actix::test]
async fn a_device_proof_is_checked_in_the_documented_order() {
    let cases: &[(Edit, &str, &str, &str)] = &[
        (
            |params| {
                params["device"]["id"] = "00".repeat(32).into();
                params["device"]["signedAt"] = 1.into();
            },
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            "device-id-mismatch",
            "device identity mismatch",
        ),
        (
            |params| params["device"]["publicKey"] = "nonsense".into(),
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            "device-id-mismatch",
            "device identity mismatch",
        ),
        (
            |params| {
                let signed_at = params["device"]["signedAt"].as_u64().unwrap();
                params["device"]["signedAt"] = (signed_at - 121_000).into();
                params["device"]["nonce"] = "zzz".into();
            },
            "DEVICE_AUTH_SIGNATURE_EXPIRED",
            "device-signature-stale",
            "device signature expired",
        ),
        (
            |params| {
                let signed_at = params["device"]["signedAt"].as_u64().unwrap();
                params["device"]["signedAt"] = (signed_at + 121_000).into();
            },
            "DEVICE_AUTH_SIGNATURE_EXPIRED",
            "device-signature-stale",
            "device signature expired",
        ),
        (
            |params| params["device"]["nonce"] = " ".into(),
            "DEVICE_AUTH_NONCE_REQUIRED",
            "device-nonce-missing",
            "device nonce required",
        ),
        (
            |params| params["device"]["nonce"] = "zzz".into(),
            "DEVICE_AUTH_NONCE_MISMATCH",
            "device-nonce-mismatch",
            "device nonce mismatch",
        ),
        (
            |params| params["client"]["platform"] = "macos".into(),
            "DEVICE_AUTH_SIGNATURE_INVALID",
            "device-signature",
            "device signature invalid",
        ),
    ];
    for (edit, code, reason, message) in cases {
        let introduction = Introduction {
            edit: *edit,
            ..Introduction::default()
        };
        let (answer, closed) = answer(of(Release::September), introduction).await;
        let error = answer.unwrap_err();
        let expected = json!({
            "code": "INVALID_REQUEST", "message": message,
            "details": { "code": code, "reason": reason },
        });
        assert_eq!(error, expected);
        assert_eq!(
            closed,
            Closed {
                code: Some(1008),
                reason: (*message).to_owned()
            }
        );
    }
}

#[actix::test]
async fn the_older_signature_payload_is_accepted_too() {
    let gateway = start(of(Release::September)).await;
    let identity = identity();
    let mut node = RawNode::dial(&gateway.url(), &[]).await;
    let challenge = node.event("connect.challenge").await;
    let introduction = Introduction::default();
    let mut params = common::connect_params(&identity, &introduction, &challenge);
    let payload = format!(
        "v2|{}|node-host|node|node||{}|{}|{}",
        identity.device_id(),
        challenge["ts"],
        openclaw_node_gateway::DEFAULT_TOKEN,
        challenge["nonce"].as_str().unwrap(),
    );
    params["device"]["signature"] = identity.sign(&payload).into();
    assert_eq!(
        node.request("connect", params).await.unwrap()["type"],
        "hello-ok"
    );
}

fn token_mode() -> AuthMode {
    AuthMode::Token("T".into())
}

fn password_mode() -> AuthMode {
    AuthMode::Password("P".into())
}

#[actix::test]
async fn credentials_are_judged_as_the_gateway_is_configured() {
    use Release::{May, September};
    let accepted = "";
    let cases: Vec<(Release, AuthMode, Value, &str)> = vec![
        (September, token_mode(), json!({ "token": "T" }), accepted),
        (
            September,
            token_mode(),
            json!({ "token": "no" }),
            "AUTH_TOKEN_MISMATCH",
        ),
        (September, token_mode(), Value::Null, "AUTH_TOKEN_MISSING"),
        (September, token_mode(), json!({}), "AUTH_TOKEN_MISSING"),
        (
            September,
            token_mode(),
            json!({ "password": "no" }),
            "AUTH_TOKEN_MISMATCH",
        ),
        (
            September,
            token_mode(),
            json!({ "password": "T" }),
            accepted,
        ),
        (
            May,
            token_mode(),
            json!({ "password": "no" }),
            "AUTH_TOKEN_MISSING",
        ),
        (
            May,
            token_mode(),
            json!({ "password": "T" }),
            "AUTH_TOKEN_MISSING",
        ),
        (
            September,
            password_mode(),
            json!({ "password": "P" }),
            accepted,
        ),
        (
            September,
            password_mode(),
            json!({ "password": "no" }),
            "AUTH_PASSWORD_MISMATCH",
        ),
        (
            September,
            password_mode(),
            Value::Null,
            "AUTH_PASSWORD_MISSING",
        ),
        (
            September,
            password_mode(),
            json!({ "token": "no" }),
            "AUTH_PASSWORD_MISMATCH",
        ),
        (
            May,
            password_mode(),
            json!({ "token": "no" }),
            "AUTH_PASSWORD_MISSING",
        ),
        (September, AuthMode::None, Value::Null, accepted),
        (
            September,
            AuthMode::None,
            json!({ "token": "anything" }),
            accepted,
        ),
        (
            September,
            token_mode(),
            json!({ "token": "x", "deviceToken": "x" }),
            "AUTH_DEVICE_TOKEN_MISMATCH",
        ),
        (
            September,
            token_mode(),
            json!({ "deviceToken": "x" }),
            "AUTH_DEVICE_TOKEN_MISMATCH",
        ),
        (
            September,
            token_mode(),
            json!({ "token": "T", "deviceToken": "x" }),
            accepted,
        ),
        (
            September,
            token_mode(),
            json!({ "bootstrapToken": "x" }),
            "AUTH_BOOTSTRAP_TOKEN_INVALID",
        ),
    ];
    for (release, mode, auth, expected) in cases {
        let options = GatewayOptions {
            auth: mode.clone(),
            ..of(release)
        };
        let introduction = Introduction {
            auth: auth.clone(),
            ..Introduction::default()
        };
        let (answer, closed) = answer(options, introduction).await;
        let code = match &answer {
            Ok(_) => accepted,
            Err(error) => error["details"]["code"].as_str().unwrap(),
        };
        assert_eq!(code, expected, "{release:?} {mode:?} {auth}");
        if let Err(error) = answer {
            assert_eq!(closed.code, Some(1008));
            assert_eq!(error["message"].as_str(), Some(closed.reason.as_str()));
        }
    }
}

#[actix::test]
async fn only_a_plain_shared_token_may_be_retried_with_a_device_token() {
    let cases = [
        (json!({ "token": "no" }), true, "retry_with_device_token"),
        (
            json!({ "password": "no" }),
            false,
            "update_auth_credentials",
        ),
        (
            json!({ "token": "no", "deviceToken": "no" }),
            false,
            "update_auth_credentials",
        ),
        (Value::Null, false, "update_auth_configuration"),
        (
            json!({ "bootstrapToken": "no" }),
            false,
            "review_auth_configuration",
        ),
    ];
    for (auth, can_retry, next_step) in cases {
        let introduction = Introduction {
            auth: auth.clone(),
            ..Introduction::default()
        };
        let (answer, _) = answer(of(Release::September), introduction).await;
        let details = answer.unwrap_err()["details"].clone();
        assert_eq!(details["canRetryWithDeviceToken"], can_retry, "{auth}");
        assert_eq!(details["recommendedNextStep"], next_step, "{auth}");
    }
}

#[actix::test]
async fn a_node_needs_a_device_and_only_then_a_credential() {
    let without_device: Edit = |params| drop(params.as_object_mut().unwrap().remove("device"));
    let cases = [
        (
            json!({ "token": openclaw_node_gateway::DEFAULT_TOKEN }),
            "DEVICE_IDENTITY_REQUIRED",
        ),
        (Value::Null, "DEVICE_IDENTITY_REQUIRED"),
        (json!({ "token": "no" }), "AUTH_TOKEN_MISMATCH"),
    ];
    for (auth, expected) in cases {
        let introduction = Introduction {
            auth,
            edit: without_device,
            ..Introduction::default()
        };
        let (answer, _) = answer(of(Release::September), introduction).await;
        let error = answer.unwrap_err();
        assert_eq!(error["details"]["code"], expected);
        if expected == "AUTH_TOKEN_MISMATCH" {
            assert_eq!(error["details"]["canRetryWithDeviceToken"], false);
        }
    }
}

#[actix::test]
async fn too_many_failures_lock_an_address_out() {
    for release in [Release::May, Release::September] {
        let rate_limit = RateLimit {
            max_attempts: 3,
            exempt_loopback: false,
            ..RateLimit::default()
        };
        let gateway = start(GatewayOptions {
            rate_limit,
            auth: password_mode(),
            ..of(release)
        })
        .await;
        let mut codes = Vec::new();
        for password in ["no", "no", "no", "no", "P"] {
            let auth = json!({ "password": password });
            let introduction = Introduction {
                auth,
                ..Introduction::default()
            };
            let (_, answer) = RawNode::connect(&gateway.url(), &identity(), introduction).await;
            codes.push(answer.unwrap_err());
        }
        let limited = codes.last().unwrap();
        assert_eq!(codes[2]["details"]["code"], "AUTH_PASSWORD_MISMATCH");
        assert_eq!(codes[3]["details"]["code"], "AUTH_RATE_LIMITED");
        assert_eq!(
            limited["details"]["code"], "AUTH_RATE_LIMITED",
            "the right one too"
        );
        assert_eq!(limited["details"]["recommendedNextStep"], "wait_then_retry");
        let wait = limited
            .get("retryAfterMs")
            .map(|wait| wait.as_u64().unwrap());
        match release {
            Release::May => assert_eq!(wait, None),
            Release::September => assert!(wait.is_some_and(|wait| (1..=300_000).contains(&wait))),
        }
    }
}

#[actix::test]
async fn loopback_is_not_locked_out_by_default() {
    let gateway = start(of(Release::September)).await;
    for _ in 0..12 {
        let introduction = Introduction {
            auth: json!({ "token": "no" }),
            ..Introduction::default()
        };
        let (_, answer) = RawNode::connect(&gateway.url(), &identity(), introduction).await;
        assert_eq!(
            answer.unwrap_err()["details"]["code"],
            "AUTH_TOKEN_MISMATCH"
        );
    }
}

#[actix::test]
async fn a_setup_code_belongs_to_the_first_device_that_uses_it() {
    for release in [Release::May, Release::September] {
        let gateway = start(of(release)).await;
        let secret = gateway
            .mint_bootstrap_token(BootstrapProfile::Node)
            .await
            .unwrap();
        let auth = json!({ "bootstrapToken": secret.expose_secret() });
        let introduction = || Introduction {
            auth: auth.clone(),
            ..Introduction::default()
        };
        let owner = identity();
        let (_, first) = RawNode::connect(&gateway.url(), &owner, introduction()).await;
        let token = first.unwrap()["auth"]["deviceToken"].clone();
        let (_, other) = RawNode::connect(&gateway.url(), &identity(), introduction()).await;
        assert_eq!(
            other.unwrap_err()["details"]["code"],
            "AUTH_BOOTSTRAP_TOKEN_INVALID"
        );
        let (_, again) = RawNode::connect(&gateway.url(), &owner, introduction()).await;
        assert_eq!(again.is_ok(), release == Release::September, "{release:?}");
        let auth = json!({ "token": token, "deviceToken": token });
        let with_token = Introduction {
            auth,
            ..Introduction::default()
        };
        let (_, hello) = RawNode::connect(&gateway.url(), &owner, with_token).await;
        assert_eq!(
            hello.unwrap()["auth"]["deviceToken"],
            token,
            "it stays the same"
        );
    }
}

#[actix::test]
async fn a_mobile_setup_code_makes_a_node_wait_and_retry() {
    let gateway = start(of(Release::September)).await;
    let secret = gateway
        .mint_bootstrap_token(BootstrapProfile::Mobile)
        .await
        .unwrap();
    let auth = json!({ "bootstrapToken": secret.expose_secret() });
    let owner = identity();
    let introduction = || Introduction {
        auth: auth.clone(),
        ..Introduction::default()
    };
    let (_, answer) = RawNode::connect(&gateway.url(), &owner, introduction()).await;
    let details = answer.unwrap_err()["details"].clone();
    assert_eq!(details["recommendedNextStep"], "wait_then_retry");
    assert_eq!(
        (&details["retryable"], &details["pauseReconnect"]),
        (&true.into(), &false.into())
    );
    let approve = json!({ "requestId": details["requestId"] });
    gateway.call("device.pair.approve", approve).await.unwrap();
    let (_, answer) = RawNode::connect(&gateway.url(), &owner, introduction()).await;
    assert_eq!(answer.unwrap()["auth"]["method"], "bootstrap-token");
}
