//! The handshake answers exactly as the recorded gateways do.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::{Closed, DEADLINE, Introduction, RawNode, answer, identity, of, start};
use openclaw_node_gateway::{Faults, GatewayOptions, PairingPolicy, Recorded, Release, Timing};
use serde_json::{Value, json};

/// What a case changes in finished connect params.
type Edit = fn(&mut Value);

#[actix::test]
async fn a_challenge_opens_every_connection() {
    let gateway = start(of(Release::September)).await;
    let challenge = RawNode::dial(&gateway.url(), &[])
        .await
        .event("connect.challenge")
        .await;
    assert_eq!(challenge["capabilities"], json!(["model-catalog-snapshot"]));
    let gateway = start(of(Release::May)).await;
    let challenge = RawNode::dial(&gateway.url(), &[])
        .await
        .event("connect.challenge")
        .await;
    assert_eq!(challenge.get("capabilities"), None);
}

#[actix::test]
async fn connect_params_are_validated_strictly() {
    let cases: &[(Edit, Option<&str>, Option<&str>)] = &[
        (|_| {}, None, None),
        (
            |params| params["bogus"] = 1.into(),
            Some("at root: unexpected property 'bogus'"),
            Some("at root: unexpected property 'bogus'"),
        ),
        (
            |params| params["client"]["bogus"] = 1.into(),
            Some("at /client: unexpected property 'bogus'"),
            Some("at /client: unexpected property 'bogus'"),
        ),
        (
            |params| drop(params["client"].as_object_mut().unwrap().remove("version")),
            Some("at /client: must have required property 'version'"),
            Some("at /client: must have required property 'version'"),
        ),
        (
            |params| params["client"]["deviceFamily"] = Value::Null,
            Some("at /client/deviceFamily: must be string"),
            Some("at /client/deviceFamily: must be string"),
        ),
        (
            |params| params["client"]["displayName"] = "".into(),
            Some("at /client/displayName: must NOT have fewer than 1 characters"),
            Some("at /client/displayName: must not have fewer than 1 characters"),
        ),
        (
            |params| params["client"]["id"] = "my-node".into(),
            Some("at /client/id: must be equal to one of the allowed values"),
            Some("at /client/id: must be equal to one of the allowed values"),
        ),
        (
            |params| params["commands"] = json!([""]),
            Some("at /commands/0: must NOT have fewer than 1 characters"),
            Some("at /commands/0: must not have fewer than 1 characters"),
        ),
        (
            |params| params["auth"]["token"] = Value::Null,
            Some("at /auth/token: must be string"),
            Some("at /auth/token: must be string"),
        ),
        (
            |params| params["auth"]["bogus"] = "x".into(),
            Some("at /auth: unexpected property 'bogus'"),
            Some("at /auth: unexpected property 'bogus'"),
        ),
        (
            |params| drop(params["device"].as_object_mut().unwrap().remove("nonce")),
            Some("at /device: must have required property 'nonce'"),
            Some("at /device: must have required property 'nonce'"),
        ),
        (
            |params| params["client"]["buildId"] = "abc".into(),
            Some("at /client: unexpected property 'buildId'"),
            None,
        ),
        (
            |params| params["workerRuns"] = json!({}),
            Some("at root: unexpected property 'workerRuns'"),
            Some("at /workerRuns: must have required property 'bundleHash'"),
        ),
        (
            |params| {
                params["permissions"] = json!({ "camera": true });
                params["locale"] = "en".into();
                params["pathEnv"] = "".into();
                params["caps"] = json!(["weird", "weird"]);
            },
            None,
            None,
        ),
    ];
    for (edit, may, september) in cases {
        for (release, expected) in [(Release::May, may), (Release::September, september)] {
            let introduction = Introduction {
                edit: *edit,
                ..Introduction::default()
            };
            let (answer, closed) = answer(of(release), introduction).await;
            let expected = expected.map(|why| format!("invalid connect params: {why}"));
            let error = answer.err();
            assert_eq!(
                error
                    .as_ref()
                    .map(|error| error["message"].as_str().unwrap()),
                expected.as_deref()
            );
            if let (Some(error), Some(expected)) = (error, expected) {
                assert_eq!(error["code"], "INVALID_REQUEST");
                assert_eq!(error.get("details"), None);
                assert_eq!(
                    closed,
                    Closed {
                        code: Some(1008),
                        reason: expected
                    }
                );
            }
        }
    }
}

#[actix::test]
async fn an_empty_computer_use_trips_the_newer_release() {
    let gateway = start(of(Release::September)).await;
    let mut node = RawNode::dial(&gateway.url(), &[]).await;
    let challenge = node.event("connect.challenge").await;
    let introduction = Introduction {
        edit: |params| params["computerUse"] = json!({}),
        ..Introduction::default()
    };
    let params = common::connect_params(&identity(), &introduction, &challenge);
    node.post("connect", params).await;
    assert_eq!(
        node.closed().await,
        Closed {
            code: Some(1000),
            reason: String::new()
        }
    );
}

#[actix::test]
async fn a_protocol_range_has_to_overlap() {
    let cases = [
        (Release::May, (4, 4), None),
        (Release::May, (3, 5), None),
        (Release::May, (3, 3), Some(4)),
        (Release::September, (3, 3), None),
        (Release::September, (2, 2), Some(3)),
        (Release::September, (5, 5), Some(3)),
    ];
    for (release, protocol, refused) in cases {
        let introduction = Introduction {
            protocol,
            ..Introduction::default()
        };
        let (answer, closed) = answer(of(release), introduction).await;
        assert_eq!(
            answer.is_err(),
            refused.is_some(),
            "{release:?} {protocol:?}"
        );
        if let (Err(error), Some(probe)) = (answer, refused) {
            let details = json!({
                "code": "PROTOCOL_MISMATCH", "clientMinProtocol": protocol.0,
                "clientMaxProtocol": protocol.1, "expectedProtocol": 4,
                "minimumProbeProtocol": probe,
            });
            assert_eq!(error["details"], details);
            assert_eq!(
                closed,
                Closed {
                    code: Some(1002),
                    reason: "protocol mismatch".to_owned()
                }
            );
        }
    }
}

#[actix::test]
async fn what_is_no_handshake_ends_the_connection() {
    let gateway = start(of(Release::September)).await;
    let mut node = RawNode::dial(&gateway.url(), &[]).await;
    let error = node.request("health", json!({})).await.unwrap_err();
    assert_eq!(
        error["message"],
        "invalid handshake: first request must be connect"
    );
    assert_eq!(node.closed().await.code, Some(1008));

    let mut node = RawNode::dial(&gateway.url(), &[]).await;
    node.send_text("garbage").await;
    assert_eq!(
        node.closed().await,
        Closed {
            code: Some(1000),
            reason: String::new()
        }
    );

    let mut node = RawNode::dial(&gateway.url(), &[]).await;
    node.send_text(&"x".repeat(64 * 1024 + 1)).await;
    assert_eq!(
        node.closed().await,
        Closed {
            code: Some(1009),
            reason: String::new()
        }
    );
}

#[actix::test]
async fn a_silent_peer_is_closed_after_the_handshake_deadline() {
    let timing = Timing {
        handshake: Duration::from_millis(50),
        ..Timing::default()
    };
    let gateway = start(GatewayOptions {
        timing,
        ..of(Release::September)
    })
    .await;
    let mut node = RawNode::dial(&gateway.url(), &[]).await;
    assert_eq!(
        node.closed().await,
        Closed {
            code: Some(1000),
            reason: String::new()
        }
    );
}

#[actix::test]
async fn an_origin_header_is_refused() {
    let introduction = Introduction {
        headers: vec![("Origin", "https://evil.example")],
        ..Introduction::default()
    };
    let (answer, closed) = answer(of(Release::September), introduction).await;
    assert_eq!(
        answer.unwrap_err()["details"]["code"],
        "CONTROL_UI_ORIGIN_NOT_ALLOWED"
    );
    assert_eq!(closed.code, Some(1008));
}

#[actix::test]
async fn forwarding_headers_are_refused_or_make_a_peer_remote() {
    let headers = || vec![("X-Forwarded-For", "203.0.113.7")];
    let gateway = start(of(Release::September)).await;
    let refused = awc::Client::new()
        .ws(gateway.url())
        .header("X-Forwarded-For", "203.0.113.7")
        .connect()
        .await;
    assert!(
        refused
            .err()
            .unwrap()
            .to_string()
            .contains("response status")
    );

    let introduction = Introduction {
        headers: headers(),
        ..Introduction::default()
    };
    let (answer, _) = answer(of(Release::May), introduction).await;
    let error = answer.unwrap_err();
    assert_eq!(error["details"]["reason"], "not-paired");
    assert_eq!(error["details"]["requestedScopes"], json!([]));
}

#[actix::test]
async fn a_trusted_network_is_paired_silently() {
    for (network, paired) in [("203.0.113.0/24", true), ("198.51.100.0/24", false)] {
        let pairing = PairingPolicy {
            auto_approve_local: false,
            auto_approve_cidrs: vec![network.parse().unwrap()],
        };
        let options = GatewayOptions {
            pairing,
            trust_proxy: true,
            ..of(Release::September)
        };
        let introduction = Introduction {
            headers: vec![("X-Forwarded-For", "203.0.113.7")],
            ..Introduction::default()
        };
        let (answer, _) = answer(options, introduction).await;
        assert_eq!(answer.is_ok(), paired, "{network}");
    }
}

#[actix::test]
async fn a_starting_gateway_asks_for_patience() {
    let gateway = start(of(Release::September)).await;
    let known = identity();
    let approved = RawNode::admitted(&gateway.url(), &known).await;
    gateway.admit(DEADLINE).await.unwrap();
    drop(approved);
    let faults = Faults {
        starting: true,
        ..Faults::default()
    };
    gateway.set_faults(faults).await.unwrap();
    let (mut node, answer) =
        RawNode::connect(&gateway.url(), &identity(), Introduction::default()).await;
    let expected = json!({
        "code": "UNAVAILABLE", "message": "gateway starting; retry shortly",
        "retryable": true, "retryAfterMs": 500, "details": { "reason": "startup-sidecars" },
    });
    assert_eq!(answer.unwrap_err(), expected);
    let closed = Closed {
        code: Some(1013),
        reason: "gateway starting".to_owned(),
    };
    assert_eq!(node.closed().await, closed);
    RawNode::admitted(&gateway.url(), &known).await;
}

#[actix::test]
async fn hello_has_the_shape_of_its_release() {
    for release in [Release::May, Release::September] {
        let (answer, _) = answer(of(release), Introduction::default()).await;
        let hello = answer.unwrap();
        assert_eq!(hello["type"], "hello-ok");
        assert_eq!(hello["protocol"], 4);
        assert_eq!(hello["server"]["version"], release.version());
        assert_eq!(hello["auth"]["role"], "node");
        assert_eq!(hello["auth"]["scopes"], json!([]));
        assert_eq!(hello["auth"]["deviceToken"].as_str().unwrap().len(), 43);
        assert_eq!(hello["policy"]["tickIntervalMs"], 30_000);
        assert_eq!(hello["policy"]["maxPayload"], 26_214_400);
        let methods = hello["features"]["methods"].as_array().unwrap();
        let september = release == Release::September;
        assert_eq!(methods.contains(&"node.invoke.progress".into()), september);
        assert_eq!(hello["features"].get("capabilities").is_some(), september);
        assert_eq!(hello["auth"].get("method").is_some(), september);
    }
}

#[actix::test]
async fn everything_a_node_sends_is_recorded() {
    let gateway = start(of(Release::September)).await;
    let identity = identity();
    let mut node = RawNode::admitted(&gateway.url(), &identity).await;
    node.send_text("not json").await;
    let unreadable = gateway
        .wait_for(DEADLINE, |snapshot| {
            snapshot.records().find_map(|record| match &record.what {
                Recorded::Unreadable(text) => Some(text.clone()),
                _ => None,
            })
        })
        .await
        .unwrap();
    assert_eq!(unreadable, "not json");
    let connect = gateway
        .inspect(|snapshot| snapshot.connects().next().cloned())
        .await
        .unwrap();
    assert_eq!(
        connect.unwrap()["device"]["id"],
        identity.device_id().as_str()
    );
    let error = gateway
        .wait_for(Duration::from_millis(20), |_| None::<()>)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("sent no frame"), "{error}");
}
