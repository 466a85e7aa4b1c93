//! What the handle wants of the hub.

use std::time::Duration;

use actix::prelude::*;
use protocol::close::{Close, CloseCode};
use protocol::frame::GatewayError;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::dispatch::RawInvoke;
use crate::faults::{Faults, Injection};
use crate::hub::{Caller, Hub};
use crate::options::Release;
use crate::pairing::BootstrapProfile;
use crate::record::WaitError;
use crate::session::{ConnectionId, Inject};
use crate::watch::Check;

/// How long sessions may take to close when the gateway restarts.
const RESTART_GRACE: Duration = Duration::from_millis(500);

/// The handle calls an operator method.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) reply: oneshot::Sender<Result<Value, GatewayError>>,
}

/// The handle sends an invoke word for word.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CallRaw {
    pub(crate) invoke: RawInvoke,
    pub(crate) reply: oneshot::Sender<Result<Value, GatewayError>>,
}

/// The handle waits for a condition.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WaitFor {
    pub(crate) check: Check,
    pub(crate) deadline: Duration,
    pub(crate) reply: oneshot::Sender<Result<(), WaitError>>,
}

/// The handle changes what goes wrong.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SetFaults(pub(crate) Faults);

/// The handle throws something at a connection; the answer says whether it is there.
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct InjectInto {
    pub(crate) connection: ConnectionId,
    pub(crate) injection: Injection,
}

/// The handle makes a setup code's secret.
#[derive(Message)]
#[rtype(result = "Minted")]
pub(crate) struct MintBootstrapToken(pub(crate) BootstrapProfile);

/// The secret of a new setup code.
#[derive(MessageResponse)]
pub(crate) struct Minted(pub(crate) SecretString);

/// The handle gives a device's pending request a new id.
#[derive(Message)]
#[rtype(result = "Option<String>")]
pub(crate) struct Supersede(pub(crate) String);

/// The gateway restarts; the port already refuses.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Restart;

impl Handler<Call> for Hub {
    type Result = ();

    fn handle(&mut self, call: Call, context: &mut Self::Context) {
        let caller = Caller::Handle(call.reply);
        self.operator_request(caller, None, &call.method, &call.params, context);
        self.publish(context);
    }
}

impl Handler<CallRaw> for Hub {
    type Result = ();

    fn handle(&mut self, call: CallRaw, context: &mut Self::Context) {
        self.invoke_raw(Caller::Handle(call.reply), call.invoke, context);
        self.publish(context);
    }
}

impl Handler<WaitFor> for Hub {
    type Result = ();

    fn handle(&mut self, wait: WaitFor, context: &mut Self::Context) {
        self.watch(wait.check, wait.deadline, wait.reply, context);
    }
}

impl Handler<SetFaults> for Hub {
    type Result = ();

    fn handle(&mut self, SetFaults(faults): SetFaults, _: &mut Self::Context) {
        self.faults.replace(faults);
    }
}

impl Handler<InjectInto> for Hub {
    type Result = bool;

    fn handle(&mut self, inject: InjectInto, context: &mut Self::Context) -> bool {
        let Some(known) = self.connections.get(&inject.connection) else {
            return false;
        };
        let sent = known.session.try_send(Inject(inject.injection)).is_ok();
        self.publish(context);
        sent
    }
}

impl Handler<MintBootstrapToken> for Hub {
    type Result = Minted;

    fn handle(&mut self, mint: MintBootstrapToken, _: &mut Self::Context) -> Minted {
        Minted(
            self.devices
                .mint_bootstrap_token(mint.0, std::time::Instant::now()),
        )
    }
}

impl Handler<Supersede> for Hub {
    type Result = Option<String>;

    fn handle(&mut self, supersede: Supersede, context: &mut Self::Context) -> Option<String> {
        let request_id = self.devices.supersede(&supersede.0);
        self.touch();
        self.publish(context);
        request_id
    }
}

impl Handler<Restart> for Hub {
    type Result = ();

    fn handle(&mut self, _: Restart, context: &mut Self::Context) {
        let shutdown = match self.release() {
            Release::May => json!({ "reason": "gateway stopping", "restartExpectedMs": null }),
            Release::September => json!({ "reason": "gateway stopping" }),
        };
        self.broadcast(None, "shutdown", &shutdown);
        self.boot_id = Uuid::new_v4();
        let sessions: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for connection in &sessions {
            self.close(
                *connection,
                Close::new(CloseCode::ServiceRestart, "service restart"),
            );
        }
        // A process that restarts does not wait for peers that never answer its close frame.
        for connection in sessions {
            if let Some(known) = self.connections.get(&connection) {
                known.link.cut_after(RESTART_GRACE);
            }
        }
        self.publish(context);
    }
}
