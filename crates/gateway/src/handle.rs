//! The gateway's outside: starting it, steering it, and seeing what it saw.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use actix::Addr;
use protocol::frame::GatewayError;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::dispatch::RawInvoke;
use crate::faults::{Faults, Injection};
use crate::hub::Hub;
use crate::options::GatewayOptions;
use crate::pairing::BootstrapProfile;
use crate::record::{NodeView, Snapshot, WaitError};
use crate::server::{CONTROL_QUEUE, Control, serve};
use crate::session::ConnectionId;
use crate::wish::{
    Call, CallRaw, InjectInto, MintBootstrapToken, Restart, SetFaults, Supersede, WaitFor,
};

/// A gateway on loopback.
pub struct Gateway;

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be had, or the thread cannot be made.
    #[error("the gateway cannot listen on 127.0.0.1:{port}: {error}; choose another port")]
    Listen {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        error: io::Error,
    },
}

impl Gateway {
    /// Starts a gateway on a thread of its own and returns once it listens.
    ///
    /// # Errors
    /// [`StartError::Listen`] when the port is taken.
    pub async fn start(options: GatewayOptions) -> Result<GatewayHandle, StartError> {
        let port = options.port;
        let failed = |error| StartError::Listen { port, error };
        let (control, commands) = mpsc::channel(CONTROL_QUEUE);
        let (report, started) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || {
                let system = actix_rt::System::new();
                system.block_on(serve(options, commands, report));
            })
            .map_err(failed)?;
        let gone = || failed(io::Error::other("the gateway's thread ended"));
        let started = started.await.map_err(|_| gone())?.map_err(failed)?;
        Ok(GatewayHandle {
            address: started.address,
            hub: started.hub,
            control,
            thread: Some(thread),
        })
    }
}

/// Steers a running gateway from any thread. Dropping it ends the gateway.
#[derive(Debug)]
pub struct GatewayHandle {
    address: SocketAddr,
    hub: Addr<Hub>,
    control: mpsc::Sender<Control>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The gateway has stopped, so it does nothing any more.
#[derive(Debug, thiserror::Error)]
#[error("the gateway has stopped")]
pub struct Stopped;

/// Why a call through the handle failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The gateway or the node refused.
    #[error("{0}")]
    Refused(GatewayError),
    /// The gateway has stopped.
    #[error("the gateway has stopped")]
    Stopped,
}

/// Why a node was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// It did not get as far as needed in time.
    #[error("no node was admitted: {0}")]
    Wait(#[from] WaitError),
    /// A request vanished while it was approved.
    #[error("no node was admitted: {0}")]
    Call(#[from] CallError),
}

/// What [`GatewayHandle::admit`] finds on its way.
enum Gate {
    Device(String),
    Surface(String),
    Open(NodeView),
}

impl GatewayHandle {
    /// Where the gateway listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL a node or operator connects to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Calls an operator method without a socket, with every scope.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let (reply, answer) = oneshot::channel();
        let call = Call {
            method: method.to_owned(),
            params,
            reply,
        };
        self.hub.send(call).await.map_err(|_| CallError::Stopped)?;
        answer
            .await
            .map_err(|_| CallError::Stopped)?
            .map_err(CallError::Refused)
    }

    /// Sends an invoke word for word, past the checks and the rewriting of `node.invoke`.
    ///
    /// # Errors
    /// [`CallError`]; a node's own error stands in `details.nodeError`.
    pub async fn invoke_raw(&self, invoke: RawInvoke) -> Result<Value, CallError> {
        let (reply, answer) = oneshot::channel();
        self.hub
            .send(CallRaw { invoke, reply })
            .await
            .map_err(|_| CallError::Stopped)?;
        answer
            .await
            .map_err(|_| CallError::Stopped)?
            .map_err(CallError::Refused)
    }

    /// Waits until `condition` finds what it looks for. It is asked at once and after everything
    /// that happens, on the gateway's thread.
    ///
    /// # Errors
    /// [`WaitError::Deadline`] with a summary of what had happened instead.
    pub async fn wait_for<T, F>(&self, deadline: Duration, mut condition: F) -> Result<T, WaitError>
    where
        T: Send + 'static,
        F: FnMut(&Snapshot) -> Option<T> + Send + 'static,
    {
        let (found_sender, found) = oneshot::channel();
        let mut found_sender = Some(found_sender);
        let check = Box::new(move |snapshot: &Snapshot| match condition(snapshot) {
            None => false,
            Some(value) => {
                if let Some(sender) = found_sender.take()
                    && sender.send(value).is_err()
                {
                    tracing::debug!("nobody waits for this condition any more");
                }
                true
            }
        });
        let (reply, result) = oneshot::channel();
        let wait = WaitFor {
            check,
            deadline,
            reply,
        };
        self.hub.send(wait).await.map_err(|_| WaitError::Stopped)?;
        result.await.map_err(|_| WaitError::Stopped)??;
        found.await.map_err(|_| WaitError::Stopped)
    }

    /// Looks at what the gateway has seen so far.
    ///
    /// # Errors
    /// [`WaitError::Stopped`].
    pub async fn inspect<T, F>(&self, mut look: F) -> Result<T, WaitError>
    where
        T: Send + 'static,
        F: FnMut(&Snapshot) -> T + Send + 'static,
    {
        self.wait_for(Duration::from_secs(10), move |snapshot| {
            Some(look(snapshot))
        })
        .await
    }

    /// Approves whatever a node still waits for, device first and surface second, until one is
    /// online with commands; `deadline` bounds each step.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub async fn admit(&self, deadline: Duration) -> Result<NodeView, AdmitError> {
        loop {
            let gate = self.wait_for(deadline, |snapshot| {
                let ready = snapshot
                    .nodes()
                    .iter()
                    .find(|node| !node.commands.is_empty());
                ready
                    .map(|node| Gate::Open(node.clone()))
                    .or_else(|| {
                        snapshot
                            .pending_devices()
                            .first()
                            .cloned()
                            .map(Gate::Device)
                    })
                    .or_else(|| {
                        snapshot
                            .pending_surfaces()
                            .first()
                            .cloned()
                            .map(Gate::Surface)
                    })
            });
            let (method, request_id) = match gate.await? {
                Gate::Open(node) => return Ok(node),
                Gate::Device(request_id) => ("device.pair.approve", request_id),
                Gate::Surface(request_id) => ("node.pair.approve", request_id),
            };
            self.call(method, json!({ "requestId": request_id }))
                .await?;
        }
    }

    /// Changes what goes wrong from now on.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn set_faults(&self, faults: Faults) -> Result<(), Stopped> {
        self.hub.send(SetFaults(faults)).await.map_err(|_| Stopped)
    }

    /// Throws something at a live connection; false when it is not there.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn inject(
        &self,
        connection: ConnectionId,
        injection: Injection,
    ) -> Result<bool, Stopped> {
        self.hub
            .send(InjectInto {
                connection,
                injection,
            })
            .await
            .map_err(|_| Stopped)
    }

    /// Makes the secret of a setup code, valid for ten minutes.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn mint_bootstrap_token(
        &self,
        profile: BootstrapProfile,
    ) -> Result<SecretString, Stopped> {
        let minted = self
            .hub
            .send(MintBootstrapToken(profile))
            .await
            .map_err(|_| Stopped)?;
        Ok(minted.0)
    }

    /// Replaces a device's pending request by one with a new id, as a real gateway does when the
    /// device asks for something else; `None` when it has none.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn supersede_request(&self, device_id: &str) -> Result<Option<String>, Stopped> {
        self.hub
            .send(Supersede(device_id.to_owned()))
            .await
            .map_err(|_| Stopped)
    }

    /// Restarts the gateway: shutdown event, close 1012, a port that refuses for `down`, then the
    /// same port with the same devices, surfaces and approvals. Returns when the sessions have
    /// been told.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn restart(&self, down: Duration) -> Result<(), Stopped> {
        let (refusing, refuses) = oneshot::channel();
        let restart = Control::Restart { down, refusing };
        self.control.send(restart).await.map_err(|_| Stopped)?;
        // Whoever reacts to the close frame must not find the port still open.
        refuses.await.map_err(|_| Stopped)?;
        self.hub.send(Restart).await.map_err(|_| Stopped)
    }

    /// Ends the gateway and waits for its thread. Connections end without a close frame.
    pub fn stop(mut self) {
        self.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the gateway's thread panicked");
        }
    }

    fn end(&self) {
        if self.control.try_send(Control::Stop).is_err() {
            tracing::debug!("the gateway has already ended");
        }
    }
}

impl Drop for GatewayHandle {
    fn drop(&mut self) {
        self.end();
    }
}
