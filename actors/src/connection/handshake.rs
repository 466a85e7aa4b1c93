//! The way from an open socket to service: challenge, connect, hello or refusal (wire protocol §4).

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use node_config::PlannedEndpoint;
use protocol::close::{Close, CloseCode};
use protocol::connect::{Challenge, ConnectParams, HELLO_DEADLINE};
use protocol::credentials::Auth;
use protocol::failure::ConnectFailure;
use protocol::frame::{GatewayError, Method};
use protocol::hello::{GatewayRelease, Hello};
use secrecy::SecretString;
use tracing::warn;

use super::requests::Pending;
use super::{Connection, Phase};
use crate::clock;
use crate::pairing::KeepToken;
use crate::supervisor::ConnectionReady;

/// How long the gateway's close frame may take to follow its refusal; it comes within 30 ms
/// (wire protocol §9).
const CLOSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// Longest wait for the device token to be on disk.
pub(crate) const KEEP_TOKEN_DEADLINE: Duration = Duration::from_secs(10);

impl Connection {
    pub(super) fn on_challenge(&mut self, payload: &str, ctx: &mut Context<Self>) {
        let challenge = match Challenge::decode(payload) {
            Ok(challenge) => challenge,
            Err(error) => {
                let close = Close::new(CloseCode::PolicyViolation, &error.to_string());
                if let Some(outbound) = &self.outbound {
                    outbound.close(&close).ok();
                }
                return self.closed(close, ctx);
            }
        };
        let node = Rc::clone(&self.options.node);
        let identity = Rc::clone(&self.options.identity);
        let auth = self.options.auth.clone();
        let params = ConnectParams::answer(
            &challenge,
            &node,
            &identity,
            &auth,
            self.options.protocol,
            clock::unix_ms(),
        );
        self.phase = Phase::Presenting;
        self.presented = true;
        self.request(Method::Connect, &params, Pending::Connect, ctx);
        ctx.run_later(HELLO_DEADLINE, |actor, ctx| {
            if matches!(actor.phase, Phase::Presenting) {
                actor.give_up("connect timeout", ctx);
            }
        });
    }

    pub(super) fn on_refusal(&mut self, error: GatewayError, ctx: &mut Context<Self>) {
        self.phase = Phase::Refused(ConnectFailure::from(error));
        ctx.run_later(CLOSE_AFTER_REFUSAL, |actor, ctx| {
            actor.closed(
                Close::new(CloseCode::PolicyViolation, "connect failed"),
                ctx,
            );
        });
    }

    pub(super) fn on_hello(&mut self, payload: &str, ctx: &mut Context<Self>) {
        let hello = match Hello::decode(payload) {
            Ok(hello) => hello,
            Err(error) => {
                warn!(%error, "the gateway's hello is not understood");
                return self.give_up("malformed hello-ok", ctx);
            }
        };
        if matches!(self.options.auth, Auth::Bootstrap(_)) {
            self.options.auth = Auth::None;
        }
        self.silence_limit = hello.tick_interval * 2;
        self.watch(ctx);
        let token = hello.device_token.clone();
        // Nothing else is done with the connection until the token is on disk: a bootstrap token
        // is used up by now, so this is the only way back in (§7.4). The wait pauses this actor
        // alone, for about a millisecond.
        let keep = self.keep_token(token);
        ctx.wait(keep.into_actor(self).map(|kept, actor, ctx| match kept {
            Ok(()) => actor.on_ready(hello, ctx),
            Err(reason) => {
                warn!(reason, "device token not stored; giving this connection up");
                actor.give_up("device token not stored", ctx);
            }
        }));
    }

    pub(super) fn keep_token(
        &self,
        token: Option<SecretString>,
    ) -> impl Future<Output = Result<(), String>> + use<> {
        let pairing = self.options.pairing.clone();
        let endpoint = PlannedEndpoint::clone(&self.options.endpoint);
        async move {
            let Some(token) = token else { return Ok(()) };
            pairing
                .send(KeepToken { token, endpoint })
                .timeout(KEEP_TOKEN_DEADLINE)
                .await
                .map_err(|error| error.to_string())?
        }
    }

    pub(super) fn on_ready(&mut self, hello: Hello, ctx: &mut Context<Self>) {
        self.phase = Phase::Ready {
            since: clock::since_boot(),
            release: hello.release,
        };
        let shows_surface = hello.release == GatewayRelease::Current;
        let ready = ConnectionReady {
            generation: self.options.generation,
            gateway_version: hello.gateway_version,
            connection_id: hello.connection_id,
            shows_surface,
        };
        if self.options.supervisor.try_send(ready).is_err() {
            warn!("supervisor does not take messages");
        }
        if shows_surface {
            self.publish_host_stats(ctx);
        }
    }
}
