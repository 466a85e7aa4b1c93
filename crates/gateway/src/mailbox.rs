//! What sessions and the listener tell the hub.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use protocol::close::Close;
use serde_json::json;
use uuid::Uuid;

use crate::clock::now_ms;
use crate::hub::{Connection, Hub};
use crate::link::Link;
use crate::options::Release;
use crate::record::Recorded;
use crate::session::{ConnectionId, Peer, Session};

/// A session has accepted a WebSocket upgrade.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Opened {
    pub(crate) connection: ConnectionId,
    /// Set by the session itself, which knows its address only once it runs.
    pub(crate) session: Option<Addr<Session>>,
    pub(crate) link: Arc<Link>,
    pub(crate) peer: Peer,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// A session has received a text message.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Received {
    pub(crate) connection: ConnectionId,
    pub(crate) text: Bytes,
}

/// A session has received a pong.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PongReceived {
    pub(crate) connection: ConnectionId,
}

/// A session has received a close frame.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseReceived {
    pub(crate) connection: ConnectionId,
    pub(crate) close: Close,
}

/// A session has sent a close frame of its own accord.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseSent {
    pub(crate) connection: ConnectionId,
    pub(crate) close: Close,
}

/// A session is over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Ended {
    pub(crate) connection: ConnectionId,
}

/// A TCP connection was accepted, whatever became of it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TcpAccepted;

impl Handler<Opened> for Hub {
    type Result = ();

    fn handle(&mut self, opened: Opened, context: &mut Self::Context) {
        let Opened {
            connection,
            session: Some(session),
            link,
            peer,
            path,
            headers,
        } = opened
        else {
            return;
        };
        let nonce = Uuid::new_v4().to_string();
        let mut challenge = json!({ "nonce": nonce, "ts": now_ms() });
        if let (Release::September, Some(challenge)) = (self.release(), challenge.as_object_mut()) {
            challenge.insert("capabilities".to_owned(), json!(["model-catalog-snapshot"]));
        }
        let opened = Connection {
            session,
            link,
            peer,
            nonce,
            client: None,
            unauthorized: 0,
            closing: false,
            pings: None,
        };
        self.connections.insert(connection, opened);
        self.record(connection, Recorded::Upgraded { path, headers });
        if !self.faults.borrow().withhold_challenge {
            self.send_event(connection, "connect.challenge", &challenge);
        }
        self.publish(context);
    }
}

impl Handler<Received> for Hub {
    type Result = ();

    fn handle(&mut self, received: Received, context: &mut Self::Context) {
        self.receive(received.connection, &received.text, context);
        self.publish(context);
    }
}

impl Handler<PongReceived> for Hub {
    type Result = ();

    fn handle(&mut self, pong: PongReceived, context: &mut Self::Context) {
        self.record(pong.connection, Recorded::Pong);
        self.publish(context);
    }
}

impl Handler<CloseReceived> for Hub {
    type Result = ();

    fn handle(&mut self, received: CloseReceived, context: &mut Self::Context) {
        self.record(received.connection, Recorded::CloseReceived(received.close));
        self.publish(context);
    }
}

impl Handler<CloseSent> for Hub {
    type Result = ();

    fn handle(&mut self, sent: CloseSent, context: &mut Self::Context) {
        self.record(sent.connection, Recorded::CloseSent(sent.close));
        self.publish(context);
    }
}

impl Handler<Ended> for Hub {
    type Result = ();

    fn handle(&mut self, ended: Ended, context: &mut Self::Context) {
        self.leave(ended.connection);
        if let Some(known) = self.connections.remove(&ended.connection) {
            if let Some(pings) = known.pings {
                context.cancel_future(pings);
            }
            self.record(ended.connection, Recorded::Ended);
        }
        self.publish(context);
    }
}

impl Handler<TcpAccepted> for Hub {
    type Result = ();

    fn handle(&mut self, _: TcpAccepted, context: &mut Self::Context) {
        self.snapshot.tcp_connections += 1;
        self.publish(context);
    }
}
