//! Pairing: what happens while an operator has to act, and keeping what their approval brings.
//!
//! There are two gates. The first, device pairing, lets this node connect at all; while it is
//! closed there is no connection, so this actor polls. The second, the approval of the command
//! surface, lets invokes through; it is applied to the live connection.

use actix::prelude::*;
use node_config::{GatewayScope, PlannedEndpoint};
use protocol::pairing::{PairingRequired, PollSchedule, RequestId};
use protocol::surface;
use secrecy::{ExposeSecret as _, SecretString};
use tracing::{debug, info};

use crate::announce::{self, Announcer, Severity};
use crate::jitter;
use crate::status::PendingApproval;
use crate::store::{Store, StoreDeviceToken, TokenScope};
use crate::supervisor::{PollNow, Supervisor, SurfaceChanged, SurfaceState, TokenKept};

/// Why the gateway does not let this node in yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OperatorTask {
    /// The device waits for approval.
    ApproveDevice(PairingRequired),
    /// The device token covers too few scopes, and the gateway named no request.
    WidenScopes,
}

/// The connection ended because an operator has to act first. [`PollNow`] follows when it is time
/// to look again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct AwaitOperator(pub(crate) OperatorTask);

/// The node is connected: the first gate is open.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct DeviceAccepted {
    /// Whether the gateway will show the state of the second gate.
    pub(crate) shows_surface: bool,
}

/// Keeps the device token of a hello. The answer comes when it is on disk.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), String>")]
pub(crate) struct KeepToken {
    /// The token.
    pub(crate) token: SecretString,
    /// The gateway that issued it.
    pub(crate) endpoint: PlannedEndpoint,
}

/// What the gateway showed of the second gate.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) enum SurfaceKnown {
    /// Invokes come through.
    Approved,
    /// An operator has to approve the command surface.
    Pending {
        /// Which request, where known.
        request_id: Option<RequestId>,
    },
}

/// The pairing actor.
pub(crate) struct Pairing {
    device_id: String,
    supervisor: Addr<Supervisor>,
    store: Addr<Store>,
    announcer: Announcer,
    /// Runs from the first refusal to the acceptance.
    schedule: PollSchedule,
    task: Option<OperatorTask>,
    /// The wait before the next look.
    poll: Option<SpawnHandle>,
    /// The token on disk, and who issued it.
    kept_token: Option<(GatewayScope, SecretString)>,
    surface: Option<SurfaceKnown>,
    hinted_at_surface: bool,
}

impl Pairing {
    /// A pairing actor for one device. `kept_token` is the token that is already on disk, with the
    /// endpoint that issued it.
    pub(crate) fn new(
        device_id: String,
        kept_token: Option<(GatewayScope, SecretString)>,
        supervisor: Addr<Supervisor>,
        store: Addr<Store>,
    ) -> Self {
        Self {
            device_id,
            supervisor,
            store,
            announcer: Announcer::default(),
            schedule: PollSchedule::default(),
            task: None,
            poll: None,
            kept_token,
            surface: None,
            hinted_at_surface: false,
        }
    }

    fn tell_surface(&self, state: SurfaceState) {
        if self.supervisor.try_send(SurfaceChanged(state)).is_err() {
            debug!("supervisor does not take messages");
        }
    }
}

impl Actor for Pairing {
    type Context = Context<Self>;
}

fn line_for(task: &OperatorTask) -> String {
    match task {
        OperatorTask::ApproveDevice(pending) => announce::approval_needed(pending),
        OperatorTask::WidenScopes => announce::connect_failed(
            "device token scope mismatch; on the gateway run: openclaw devices list, and approve this node's scopes",
        ),
    }
}

impl Handler<AwaitOperator> for Pairing {
    type Result = ();

    fn handle(&mut self, message: AwaitOperator, ctx: &mut Context<Self>) {
        if self.task.as_ref() != Some(&message.0) {
            self.announcer
                .line(Severity::Warning, &line_for(&message.0));
            self.task = Some(message.0);
        }
        let wait = self.schedule.next_wait(jitter::random());
        debug!(wait = %humantime::format_duration(wait), "waiting for an operator");
        let poll = ctx.run_later(wait, |actor, _| {
            if actor.supervisor.try_send(PollNow).is_err() {
                debug!("supervisor does not take messages");
            }
        });
        if let Some(earlier) = self.poll.replace(poll) {
            ctx.cancel_future(earlier);
        }
    }
}

impl Handler<DeviceAccepted> for Pairing {
    type Result = ();

    fn handle(&mut self, message: DeviceAccepted, ctx: &mut Context<Self>) {
        if let Some(poll) = self.poll.take() {
            ctx.cancel_future(poll);
        }
        if self.task.take().is_some() {
            self.announcer
                .line(Severity::Notice, "node host device approved by the gateway");
        }
        self.schedule = PollSchedule::default();
        self.surface = None;
        if !message.shows_surface && !self.hinted_at_surface {
            self.hinted_at_surface = true;
            self.announcer.line(
                Severity::Warning,
                "node host commands may wait for approval, which this gateway does not show to nodes; on the gateway run: openclaw nodes pending",
            );
        }
    }
}

impl Handler<KeepToken> for Pairing {
    type Result = ResponseActFuture<Self, Result<(), String>>;

    fn handle(&mut self, message: KeepToken, _: &mut Context<Self>) -> Self::Result {
        let gateway_scope = message.endpoint.scope();
        let unchanged = self.kept_token.as_ref().is_some_and(|(scope, kept)| {
            *scope == gateway_scope && kept.expose_secret() == message.token.expose_secret()
        });
        let store = self.store.clone();
        let store_token = StoreDeviceToken {
            scope: TokenScope {
                device_id: self.device_id.clone(),
                gateway_scope: gateway_scope.clone(),
            },
            token: message.token.clone(),
            endpoint: message.endpoint,
        };
        let store_if_new = async move {
            if unchanged {
                return Ok(());
            }
            match store.send(store_token).await {
                Ok(stored) => stored.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        };
        Box::pin(store_if_new.into_actor(self).map(move |stored, actor, _| {
            stored?;
            if !unchanged {
                info!("device token stored");
                actor.kept_token = Some((gateway_scope, message.token.clone()));
            }
            actor
                .supervisor
                .try_send(TokenKept {
                    token: message.token,
                })
                .map_err(|error| error.to_string())
        }))
    }
}

impl Handler<SurfaceKnown> for Pairing {
    type Result = ();

    fn handle(&mut self, known: SurfaceKnown, _: &mut Context<Self>) {
        if self.surface.as_ref() == Some(&known) {
            return;
        }
        match &known {
            SurfaceKnown::Approved => {
                if self.surface.is_some() {
                    self.announcer.line(
                        Severity::Notice,
                        "node host commands approved by the gateway",
                    );
                }
                self.tell_surface(SurfaceState::Approved);
            }
            SurfaceKnown::Pending { request_id } => {
                let command = surface::approval_command(request_id.as_ref());
                self.announcer.line(Severity::Warning, &format!(
                    "node host connected, but its commands wait for approval (node surface); on the gateway run: {command}"
                ));
                self.tell_surface(SurfaceState::Pending(PendingApproval {
                    request_id: request_id.as_ref().map(|id| id.as_str().to_owned()),
                    command,
                }));
            }
        }
        self.surface = Some(known);
    }
}
