//! Invokes and what a node may say about them.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::{DEADLINE, RawNode, start};
use openclaw_node_gateway::{
    CallError, GatewayHandle, GatewayOptions, Operator, OperatorAuth, RawInvoke, Release,
};
use protocol::identity::DeviceIdentity;
use serde_json::{Value, json};

/// An approved node on a gateway of one release.
struct Pair {
    gateway: GatewayHandle,
    node: RawNode,
    identity: DeviceIdentity,
}

async fn pair(options: GatewayOptions) -> Pair {
    let gateway = start(options).await;
    let identity = DeviceIdentity::generate().unwrap();
    let node = RawNode::admitted(&gateway.url(), &identity).await;
    gateway.admit(DEADLINE).await.unwrap();
    Pair {
        gateway,
        node,
        identity,
    }
}

fn of(release: Release) -> GatewayOptions {
    GatewayOptions {
        release,
        ..GatewayOptions::default()
    }
}

impl Pair {
    fn invoke(&self, command: &str, params: Value) -> Value {
        json!({
            "nodeId": self.identity.device_id(), "command": command, "params": params,
            "idempotencyKey": "key",
        })
    }

    /// Runs one invoke while `answer` plays the node.
    async fn exchange(
        &mut self,
        call: Value,
        answer: impl AsyncFnOnce(&mut RawNode, Value),
    ) -> Result<Value, Value> {
        let node = &mut self.node;
        let played = async {
            let invoke = node.event("node.invoke.request").await;
            answer(node, invoke).await;
        };
        let (called, ()) = tokio::join!(self.gateway.call("node.invoke", call), played);
        called.map_err(|error| match error {
            CallError::Refused(error) => serde_json::to_value(error).unwrap(),
            CallError::Stopped => panic!("the gateway stopped"),
        })
    }
}

fn result(invoke: &Value, rest: Value) -> Value {
    let mut result = json!({ "id": invoke["id"], "nodeId": invoke["nodeId"] });
    result
        .as_object_mut()
        .unwrap()
        .extend(rest.as_object().unwrap().clone());
    result
}

#[actix::test]
async fn an_answer_reaches_the_operator_in_every_form() {
    let cases = [
        (
            json!({ "ok": true, "payload": { "a": 1 } }),
            json!({ "a": 1 }),
            Value::Null,
        ),
        (
            json!({ "ok": true, "payloadJSON": "{\"a\":2}" }),
            json!({ "a": 2 }),
            json!("{\"a\":2}"),
        ),
        (
            json!({ "ok": true, "payload": 1, "payloadJSON": "2" }),
            json!(2),
            json!("2"),
        ),
        (
            json!({ "ok": true, "payloadJSON": null }),
            Value::Null,
            Value::Null,
        ),
        (
            json!({ "ok": true, "payloadJSON": "{oops" }),
            json!({ "payloadJSON": "{oops" }),
            json!("{oops"),
        ),
    ];
    let mut pair = pair(of(Release::September)).await;
    for (answer, payload, payload_json) in cases {
        let call = pair.invoke("system.which", json!({ "bins": ["ls"] }));
        let answered = pair
            .exchange(call, async |node, invoke| {
                let accepted = node
                    .request("node.invoke.result", result(&invoke, answer))
                    .await;
                assert_eq!(accepted, Ok(json!({ "ok": true })));
            })
            .await
            .unwrap();
        assert_eq!(answered.get("payload").unwrap_or(&Value::Null), &payload);
        assert_eq!(answered["payloadJSON"], payload_json);
    }
}

#[actix::test]
async fn a_node_s_error_is_wrapped() {
    let error = json!({ "code": "X", "message": "boom" });
    for release in [Release::May, Release::September] {
        let mut pair = pair(of(release)).await;
        let call = pair.invoke("system.which", json!({}));
        let refused = pair
            .exchange(call, async |node, invoke| {
                let failed = result(&invoke, json!({ "ok": false, "error": error }));
                node.request("node.invoke.result", failed).await.unwrap();
            })
            .await
            .unwrap_err();
        assert_eq!(
            (&refused["code"], &refused["message"]),
            (&json!("UNAVAILABLE"), &json!("X: boom"))
        );
        assert_eq!(refused["details"]["nodeError"], error);
        let dispatched = refused["details"].get("nodeCommandDispatched");
        assert_eq!(dispatched.is_some(), release == Release::September);
    }
}

#[actix::test]
async fn a_malformed_answer_is_refused_and_may_be_corrected() {
    let cases = [
        (
            json!({ "ok": true, "bogus": 1 }),
            "at root: unexpected property 'bogus'",
        ),
        (
            json!({ "ok": false, "error": { "code": "X", "retryable": true } }),
            "at /error: unexpected property 'retryable'",
        ),
        (
            json!({ "ok": true, "payloadJSON": 1 }),
            "at /payloadJSON: must be string",
        ),
    ];
    let mut pair = pair(of(Release::September)).await;
    for (wrong, why) in cases {
        let call = pair.invoke("system.which", json!({}));
        pair.exchange(call, async |node, invoke| {
            let error = node
                .request("node.invoke.result", result(&invoke, wrong))
                .await
                .unwrap_err();
            let expected = format!("invalid node.invoke.result params: {why}");
            assert_eq!(error["message"], expected);
            let elsewhere = json!({ "id": invoke["id"], "nodeId": "other", "ok": true });
            let error = node
                .request("node.invoke.result", elsewhere)
                .await
                .unwrap_err();
            assert_eq!(error["message"], "nodeId mismatch");
            let unknown = json!({ "id": "nope", "nodeId": invoke["nodeId"], "ok": true });
            let ignored = json!({ "ok": true, "ignored": true });
            assert_eq!(
                node.request("node.invoke.result", unknown).await,
                Ok(ignored.clone())
            );
            let right = result(&invoke, json!({ "ok": true }));
            node.request("node.invoke.result", right.clone())
                .await
                .unwrap();
            assert_eq!(
                node.request("node.invoke.result", right).await,
                Ok(ignored),
                "once only"
            );
        })
        .await
        .unwrap();
    }
}

#[actix::test]
async fn an_invoke_that_takes_too_long_is_cancelled() {
    for release in [Release::May, Release::September] {
        let mut pair = pair(of(release)).await;
        let mut call = pair.invoke("system.which", json!({}));
        call["timeoutMs"] = 50.into();
        let called = pair.gateway.call("node.invoke", call).await.unwrap_err();
        assert!(
            called
                .to_string()
                .contains("TIMEOUT: node invoke timed out"),
            "{called}"
        );
        let invoke = pair.node.event("node.invoke.request").await;
        assert_eq!(invoke["timeoutMs"], 50);
        if release == Release::September {
            let cancel = pair.node.event("node.invoke.cancel").await;
            let expected = json!({ "invokeId": invoke["id"], "nodeId": invoke["nodeId"] });
            assert_eq!(cancel, expected);
        }
        let late = result(&invoke, json!({ "ok": true }));
        let ignored = json!({ "ok": true, "ignored": true });
        assert_eq!(
            pair.node.request("node.invoke.result", late).await,
            Ok(ignored)
        );
    }
}

#[actix::test]
async fn a_lost_node_fails_what_it_was_asked() {
    let Pair {
        gateway,
        node,
        identity,
    } = pair(of(Release::September)).await;
    let call = json!({
        "nodeId": identity.device_id(), "command": "system.which", "params": {},
        "idempotencyKey": "key",
    });
    let leave = async {
        gateway
            .wait_for(DEADLINE, |seen| {
                (seen.invokes_in_flight() == 1).then_some(())
            })
            .await
            .unwrap();
        drop(node);
    };
    let (called, ()) = tokio::join!(gateway.call("node.invoke", call.clone()), leave);
    let lost = called.unwrap_err().to_string();
    assert!(
        lost.contains("DISCONNECTED: node disconnected (system.which)"),
        "{lost}"
    );
    let offline = gateway
        .call("node.invoke", call)
        .await
        .unwrap_err()
        .to_string();
    assert!(offline.contains("node not connected"), "{offline}");
}

#[actix::test]
async fn a_command_outside_the_surface_is_refused_with_the_reason() {
    let pair = pair(of(Release::September)).await;
    let cases = [
        ("no.such", "is not in the allowlist for platform \"linux\""),
        ("system.notify", "does not support \"system.notify\""),
        ("system.execApprovals.get", "use exec.approvals.node.*"),
    ];
    for (command, why) in cases {
        let call = pair.invoke(command, json!({}));
        let error = pair
            .gateway
            .call("node.invoke", call)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
    }
    let unnamed = json!({ "nodeId": "n", "command": "system.which" });
    let error = pair
        .gateway
        .call("node.invoke", unnamed)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("must have required property 'idempotencyKey'"),
        "{error}"
    );
}

#[actix::test]
async fn approvals_documents_travel_by_their_own_methods() {
    let mut pair = pair(of(Release::September)).await;
    let id = json!(pair.identity.device_id());
    let document = json!({ "path": "p", "exists": true, "hash": "h", "file": { "version": 1 } });
    let get = pair
        .gateway
        .call("exec.approvals.node.get", json!({ "nodeId": id }));
    let (got, invoke) = tokio::join!(get, pair.node.answer_invoke(document.clone()));
    assert_eq!(got.unwrap(), document);
    assert_eq!(invoke["command"], "system.execApprovals.get");
    assert_eq!(
        (&invoke["paramsJSON"], invoke.get("idempotencyKey")),
        (&json!("{}"), None)
    );

    let params = json!({ "nodeId": id, "file": { "version": 1 }, "baseHash": "h" });
    let set = pair.gateway.call("exec.approvals.node.set", params);
    let (_, invoke) = tokio::join!(set, pair.node.answer_invoke(document));
    let sent: Value = serde_json::from_str(invoke["paramsJSON"].as_str().unwrap()).unwrap();
    assert_eq!(sent, json!({ "file": { "version": 1 }, "baseHash": "h" }));
}

#[actix::test]
async fn exec_events_have_to_match_their_run() {
    let event = |name: &str, run: &str, session: &str| {
        let payload =
            json!({ "runId": run, "sessionKey": session, "host": "node", "command": "x" });
        json!({ "event": name, "payloadJSON": payload.to_string() })
    };
    let unmatched = |name: &str| json!({ "ok": true, "event": name, "handled": false, "reason": "unmatched_exec_event" });
    let matched = json!({ "ok": true });
    for release in [Release::May, Release::September] {
        let mut pair = pair(of(release)).await;
        let run = json!({ "command": ["true"], "runId": "run", "sessionKey": "s" });

        let call = pair.invoke("system.run", run.clone());
        pair.exchange(call, async |node, invoke| {
            let stray = event("exec.finished", "other", "s");
            assert_eq!(
                node.request("node.event", stray).await,
                Ok(unmatched("exec.finished"))
            );
            let stray = event("exec.finished", "run", "t");
            assert_eq!(
                node.request("node.event", stray).await,
                Ok(unmatched("exec.finished"))
            );
            let ok = result(&invoke, json!({ "ok": true }));
            node.request("node.invoke.result", ok).await.unwrap();
            // A success may be reported after its result.
            let finished = event("exec.finished", "run", "s");
            assert_eq!(
                node.request("node.event", finished.clone()).await,
                Ok(matched.clone())
            );
            let twice = node.request("node.event", finished).await;
            assert_eq!(twice, Ok(unmatched("exec.finished")));
        })
        .await
        .unwrap();

        let call = pair.invoke("system.run", run);
        pair.exchange(call, async |node, invoke| {
            let failed = result(&invoke, json!({ "ok": false }));
            node.request("node.invoke.result", failed).await.unwrap();
            // A denial that is reported after its result is too late.
            let denied = event("exec.denied", "run", "s");
            assert_eq!(
                node.request("node.event", denied).await,
                Ok(unmatched("exec.denied"))
            );
        })
        .await
        .unwrap_err();
    }
}

#[actix::test]
async fn a_run_without_an_id_gets_one() {
    let mut pair = pair(of(Release::September)).await;
    let call = pair.invoke("system.run", json!({ "command": ["true"], "bogus": 1 }));
    pair.exchange(call, async |node, invoke| {
        let params: Value = serde_json::from_str(invoke["paramsJSON"].as_str().unwrap()).unwrap();
        assert_eq!(params["runId"].as_str().unwrap().len(), 36);
        assert_eq!(params.get("bogus"), None, "only known fields pass");
        node.request("node.invoke.result", result(&invoke, json!({ "ok": true })))
            .await
            .unwrap();
    })
    .await
    .unwrap();
}

#[actix::test]
async fn node_events_are_answered_as_the_release_does() {
    let unsupported =
        json!({ "ok": true, "event": "foo.bar", "handled": false, "reason": "unsupported_event" });
    for release in [Release::May, Release::September] {
        let mut pair = pair(of(release)).await;
        let plain = json!({ "ok": true });
        let expected = if release == Release::May {
            &plain
        } else {
            &unsupported
        };
        for params in [
            json!({ "event": "foo.bar", "payloadJSON": "{}" }),
            json!({ "event": "foo.bar", "payload": { "a": 1 } }),
            json!({ "event": "foo.bar" }),
        ] {
            assert_eq!(
                pair.node.request("node.event", params).await.as_ref(),
                Ok(expected)
            );
        }
        let null = json!({ "event": "foo.bar", "payloadJSON": null });
        let error = pair.node.request("node.event", null).await.unwrap_err();
        assert_eq!(
            error["message"],
            "invalid node.event params: at /payloadJSON: must be string"
        );
        let nameless = json!({ "payloadJSON": "{}" });
        let error = pair.node.request("node.event", nameless).await.unwrap_err();
        assert_eq!(
            error["message"],
            "invalid node.event params: must have required property 'event'"
        );
    }
}

#[actix::test]
async fn a_node_that_keeps_calling_what_it_may_not_is_closed() {
    let mut pair = pair(of(Release::September)).await;
    let denied = json!({ "code": "INVALID_REQUEST", "message": "unauthorized role: node" });
    for round in 0..2 {
        for _ in 0..11 {
            let answer = pair.node.request("config.get", json!({})).await;
            assert_eq!(answer, Err(denied.clone()));
        }
        if round == 0 {
            pair.node.request("health", json!({})).await.unwrap();
        }
    }
    pair.node.post("config.get", json!({})).await;
    let closed = pair.node.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(1008), "repeated unauthorized calls")
    );
}

#[actix::test]
async fn what_is_no_request_is_refused_without_a_close() {
    let mut pair = pair(of(Release::September)).await;
    let node = &mut pair.node;
    node.send_text("not json").await;
    node.send_text(r#"{"type":"event","event":"x"}"#).await;
    let error = node.answer("invalid").await.unwrap_err();
    assert_eq!(
        error["message"],
        "invalid request frame: must have required property 'id'; at root: unexpected property 'event'; at /type: must be equal to constant"
    );
    node.send_text(r#"{"type":"req","id":"7","method":""}"#)
        .await;
    let error = node.answer("7").await.unwrap_err();
    assert_eq!(
        error["message"],
        "invalid request frame: at /method: must not have fewer than 1 characters"
    );
    node.request("health", json!({})).await.unwrap();
}

#[actix::test]
async fn skill_bins_are_what_the_gateway_was_given() {
    let options = GatewayOptions {
        skill_bins: vec!["skilltool".to_owned()],
        ..GatewayOptions::default()
    };
    let mut pair = pair(options).await;
    let bins = pair.node.request("skills.bins", json!({})).await.unwrap();
    assert_eq!(bins, json!({ "bins": ["skilltool"] }));
}

#[actix::test]
async fn the_newest_connection_of_a_node_is_the_node() {
    for release in [Release::May, Release::September] {
        let Pair {
            gateway,
            node: mut old,
            identity,
        } = pair(of(release)).await;
        let mut new = RawNode::admitted(&gateway.url(), &identity).await;
        let call = json!({
            "nodeId": identity.device_id(), "command": "system.which", "params": {},
            "idempotencyKey": "key",
        });
        let played = async {
            let invoke = new.event("node.invoke.request").await;
            let answer = result(&invoke, json!({ "ok": true, "payloadJSON": "\"old\"" }));
            let from_old = old.request("node.invoke.result", answer).await;
            match release {
                Release::May => assert_eq!(from_old, Ok(json!({ "ok": true, "ignored": true }))),
                Release::September => {
                    let error = from_old.unwrap_err();
                    assert_eq!(
                        error["message"],
                        "node pairing changed before request dispatch"
                    );
                    assert_eq!(error["details"]["code"], "PAIRING_CHANGED");
                }
            }
            let answer = result(&invoke, json!({ "ok": true, "payloadJSON": "\"new\"" }));
            new.request("node.invoke.result", answer).await.unwrap();
        };
        let (called, ()) = tokio::join!(gateway.call("node.invoke", call.clone()), played);
        assert_eq!(called.unwrap()["payload"], "new");

        drop(new);
        gateway
            .wait_for(DEADLINE, |seen| seen.nodes().is_empty().then_some(()))
            .await
            .unwrap();
        old.request("health", json!({})).await.unwrap();
        let offline = gateway
            .call("node.invoke", call)
            .await
            .unwrap_err()
            .to_string();
        assert!(offline.contains("node not connected"), "{offline}");
    }
}

#[actix::test]
async fn a_raw_invoke_goes_out_word_for_word() {
    let mut pair = pair(of(Release::September)).await;
    let raw = RawInvoke {
        node_id: pair.identity.device_id().as_str().to_owned(),
        command: "made.up".to_owned(),
        params_json: Some("{ \"approved\" : true".to_owned()),
        timeout: Some(DEADLINE),
        idempotency_key: None,
    };
    let played = pair.node.answer_invoke(json!(1));
    let (called, invoke) = tokio::join!(pair.gateway.invoke_raw(raw), played);
    assert_eq!(called.unwrap()["payload"], 1);
    assert_eq!(invoke["paramsJSON"], "{ \"approved\" : true");
    assert_eq!(invoke["command"], "made.up");
    assert_eq!(invoke.get("idempotencyKey"), None);
}

#[actix::test]
async fn an_operator_sees_a_node_from_pairing_to_answer() {
    let gateway = start(of(Release::September)).await;
    let token = || OperatorAuth::Token(openclaw_node_gateway::DEFAULT_TOKEN.into());
    let operator = Operator::connect(&gateway.url(), token()).await.unwrap();
    let mut events = operator.events();
    let identity = DeviceIdentity::generate().unwrap();
    let mut node = RawNode::admitted(&gateway.url(), &identity).await;
    let requested = tokio::time::timeout(DEADLINE, async {
        loop {
            let event = events.recv().await.unwrap();
            if event.name == "node.pair.requested" {
                return event.payload;
            }
        }
    });
    let requested = requested.await.unwrap();
    assert_eq!(
        requested["requiredApproveScopes"],
        json!(["operator.pairing", "operator.admin"])
    );
    let approve = json!({ "requestId": requested["requestId"] });
    operator.call("node.pair.approve", approve).await.unwrap();
    let payload = json!({ "bins": { "ls": "/usr/bin/ls" } });
    let invoke = json!({
        "nodeId": requested["nodeId"], "command": "system.which", "params": { "bins": ["ls"] },
        "idempotencyKey": "key",
    });
    let (called, _) = tokio::join!(
        operator.call("node.invoke", invoke),
        node.answer_invoke(payload.clone())
    );
    assert_eq!(called.unwrap()["payload"], payload);

    let refused = operator.call("no.such", json!({})).await.unwrap_err();
    assert_eq!(
        (refused.code.as_str(), refused.message.as_str()),
        ("INVALID_REQUEST", "unknown method: no.such")
    );
    let undecided = json!({ "id": "x", "command": "true", "twoPhase": true });
    operator
        .call("exec.approval.request", undecided)
        .await
        .unwrap();
    let brief = Duration::from_millis(20);
    let late = operator
        .call_within("exec.approval.waitDecision", json!({ "id": "x" }), brief)
        .await
        .unwrap_err();
    assert_eq!(late.code, "DEADLINE");
    operator.close().await;
    gateway
        .wait_for(DEADLINE, |seen| {
            (seen.open_connections() == 1).then_some(())
        })
        .await
        .unwrap();
    assert_eq!(
        operator.call("health", json!({})).await.unwrap_err().code,
        "CLOSED"
    );
}

#[actix::test]
async fn an_operator_with_a_device_is_let_in_by_it() {
    let gateway = start(of(Release::September)).await;
    let token = Some(openclaw_node_gateway::DEFAULT_TOKEN.into());
    let identity = Box::new(DeviceIdentity::generate().unwrap());
    let operator = Operator::connect(&gateway.url(), OperatorAuth::Device { identity, token })
        .await
        .unwrap();
    assert_eq!(
        operator.hello()["auth"]["scopes"].as_array().unwrap().len(),
        5
    );
    let refused = Operator::connect(&gateway.url(), OperatorAuth::Token("no".into())).await;
    assert_eq!(refused.unwrap_err().details["code"], "AUTH_TOKEN_MISMATCH");
    let nowhere = Operator::connect("ws://127.0.0.1:1", OperatorAuth::None).await;
    assert_eq!(nowhere.unwrap_err().code, "CONNECT");
}
