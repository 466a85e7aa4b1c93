//! One WebSocket connection: frames in, frames out, pings, deadlines and the close handshake.
//!
//! A session knows nothing of the protocol above frames; it hands text to the [`Hub`] and writes
//! what the hub tells it to.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix::prelude::*;
use actix_web_actors::ws;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, future};
use protocol::close::{Close, CloseCode};
use protocol::frame::{MAX_FRAME_BYTES, MAX_PREAUTH_FRAME_BYTES};
use tokio::sync::mpsc;

use crate::faults::Injection;
use crate::hub::Hub;
use crate::link::Link;
use crate::mailbox::{CloseReceived, CloseSent, Ended, Opened, PongReceived, Received};
use crate::options::Timing;

/// Number of a connection, in the order in which they were accepted; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The client's address, which is the proxy's word for it if proxies are trusted.
    pub(crate) address: IpAddr,
    /// Whether the client is on this machine as far as pairing is concerned.
    pub(crate) is_local: bool,
    /// Whether a browser's Origin header came along.
    pub(crate) has_origin: bool,
}

/// Messages that may wait for a session: more than any burst of invokes, far below memory.
const MAILBOX: usize = 65_536;
/// Injected raw chunks that may wait for the socket.
const RAW_QUEUE: usize = 64;

/// The actor of one connection.
pub(crate) struct Session {
    id: ConnectionId,
    hub: Addr<Hub>,
    timing: Timing,
    opened: Option<Opened>,
    phase: Phase,
    /// The message that is arriving in fragments.
    fragments: BytesMut,
    link: Arc<Link>,
    raw: mpsc::Sender<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Admitted,
    Closing,
    /// Closed, but TCP is kept open on purpose.
    Lingering,
}

/// The hub has accepted the connect request.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Admit;

/// A frame for the peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver(pub(crate) String);

/// A WebSocket ping for the peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ping;

/// End the connection with a close frame.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct CloseWith(pub(crate) Close);

/// Throw something at the peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Inject(pub(crate) Injection);

impl Session {
    /// Makes a session and the byte stream that its HTTP response consists of.
    pub(crate) fn open<S>(
        opened: Opened,
        hub: Addr<Hub>,
        timing: Timing,
        payload: S,
    ) -> impl Stream<Item = Result<Bytes, actix_web::Error>>
    where
        S: Stream<Item = Result<Bytes, actix_web::error::PayloadError>> + 'static,
    {
        let (raw, raw_queue) = mpsc::channel(RAW_QUEUE);
        let link = Arc::clone(&opened.link);
        let session = Self {
            id: opened.connection,
            hub,
            timing,
            opened: Some(opened),
            phase: Phase::Handshake,
            fragments: BytesMut::new(),
            link,
            raw,
        };
        let codec = actix_http::ws::Codec::new().max_size(MAX_FRAME_BYTES);
        // An end of TCP that is reported as an error would come before the frames that arrived
        // together with it, such as a close frame.
        let received = payload.take_while(|chunk| future::ready(chunk.is_ok()));
        Outgoing {
            frames: Box::pin(ws::WebsocketContext::with_codec(session, received, codec)),
            raw: raw_queue,
        }
    }

    fn send_to_hub<M>(&self, message: M, context: &mut ws::WebsocketContext<Self>)
    where
        M: Message<Result = ()> + Send + 'static,
        Hub: Handler<M>,
    {
        match self.hub.try_send(message) {
            Ok(()) => {}
            // Waiting keeps the peer's frames in order and stops reading from a peer that is
            // faster than the hub.
            Err(SendError::Full(message)) => {
                context.wait(
                    self.hub
                        .send(message)
                        .into_actor(self)
                        .map(|sent, _, context| {
                            if sent.is_err() {
                                context.stop();
                            }
                        }),
                );
            }
            Err(SendError::Closed(_)) => context.stop(),
        }
    }

    fn text(&mut self, bytes: Bytes, context: &mut ws::WebsocketContext<Self>) {
        match self.phase {
            Phase::Handshake if bytes.len() > MAX_PREAUTH_FRAME_BYTES => {
                self.refuse(Close::new(CloseCode::TooBig, ""), context);
            }
            Phase::Handshake | Phase::Admitted => {
                let message = Received {
                    connection: self.id,
                    text: bytes,
                };
                self.send_to_hub(message, context);
            }
            Phase::Closing | Phase::Lingering => {}
        }
    }

    fn fragment(&mut self, item: actix_http::ws::Item, context: &mut ws::WebsocketContext<Self>) {
        use actix_http::ws::Item;
        let (bytes, last) = match item {
            Item::FirstText(bytes) | Item::FirstBinary(bytes) => {
                self.fragments.clear();
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        if self.fragments.len() + bytes.len() > MAX_FRAME_BYTES {
            self.refuse(Close::new(CloseCode::TooBig, ""), context);
            return;
        }
        self.fragments.extend_from_slice(&bytes);
        if last {
            let message = self.fragments.split().freeze();
            self.text(message, context);
        }
    }

    /// Closes for a reason of the session's own, and says so to the hub.
    fn refuse(&mut self, close: Close, context: &mut ws::WebsocketContext<Self>) {
        let sent = CloseSent {
            connection: self.id,
            close: close.clone(),
        };
        self.close(close, context);
        self.send_to_hub(sent, context);
    }

    fn close(&mut self, close: Close, context: &mut ws::WebsocketContext<Self>) {
        if matches!(self.phase, Phase::Closing | Phase::Lingering) {
            return;
        }
        self.phase = Phase::Closing;
        context.close(close_frame(&close));
        self.link.cut_after(self.timing.close);
    }

    fn inject(&mut self, injection: Injection, context: &mut ws::WebsocketContext<Self>) {
        use actix_http::ws::{Item, Message};
        match injection {
            Injection::Close(close) => self.close(close, context),
            Injection::CloseAndLinger(close) => {
                self.phase = Phase::Lingering;
                context.close(close_frame(&close));
            }
            Injection::Hangup => context.stop(),
            Injection::Text(text) => context.text(text),
            Injection::Fragments(parts) => {
                let last = parts.len().saturating_sub(1);
                for (index, part) in parts.into_iter().enumerate() {
                    let bytes = Bytes::from(part);
                    context.write_raw(Message::Continuation(match index {
                        0 => Item::FirstText(bytes),
                        index if index == last => Item::Last(bytes),
                        _ => Item::Continue(bytes),
                    }));
                }
                if last == 0 {
                    context.write_raw(Message::Continuation(Item::Last(Bytes::new())));
                }
            }
            Injection::Binary(bytes) => context.binary(bytes),
            // A final text frame (0x81) of four bytes that no UTF-8 text contains.
            Injection::InvalidUtf8 => self.raw(Bytes::from_static(b"\x81\x04\xff\xfe\xc0\x80")),
            Injection::Oversized(length) => context.text("x".repeat(length)),
            Injection::Raw(bytes) => self.raw(bytes),
            Injection::Event(name, payload) => {
                context.text(crate::frame::event(&name, &payload, None))
            }
            Injection::Ping(payload) => context.ping(&payload),
        }
    }

    fn raw(&self, bytes: Bytes) {
        if self.raw.try_send(bytes).is_err() {
            tracing::warn!(
                connection = self.id.0,
                "too many injected chunks, one was dropped"
            );
        }
    }
}

fn close_frame(close: &Close) -> Option<ws::CloseReason> {
    let code = u16::from(close.code);
    // 1005 stands for a close frame without a code, which is an empty frame (RFC 6455 §7.4.1).
    (close.code != CloseCode::NoStatus).then(|| ws::CloseReason {
        code: ws::CloseCode::from(code),
        description: (!close.reason.is_empty()).then(|| close.reason.clone()),
    })
}

impl Actor for Session {
    type Context = ws::WebsocketContext<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        if let Some(mut opened) = self.opened.take() {
            opened.session = Some(context.address());
            self.send_to_hub(opened, context);
        }
        context.run_later(self.timing.handshake, |session, context| {
            if session.phase == Phase::Handshake {
                session.refuse(Close::new(CloseCode::Normal, ""), context);
            }
        });
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Err(SendError::Full(ended)) = self.hub.try_send(Ended {
            connection: self.id,
        }) {
            let ended = self.hub.send(ended);
            actix_rt::spawn(async move {
                // A hub that is gone needs no farewell.
                let _ = ended.await;
            });
        }
    }
}

impl StreamHandler<Result<ws::Message, ws::ProtocolError>> for Session {
    fn handle(
        &mut self,
        message: Result<ws::Message, ws::ProtocolError>,
        context: &mut Self::Context,
    ) {
        match message {
            Ok(ws::Message::Text(text)) => self.text(text.into_bytes(), context),
            // Real gateways parse binary frames as if they were text (§1.2).
            Ok(ws::Message::Binary(bytes)) => self.text(bytes, context),
            Ok(ws::Message::Continuation(item)) => self.fragment(item, context),
            Ok(ws::Message::Ping(payload)) => context.pong(&payload),
            Ok(ws::Message::Pong(_)) => {
                self.link.pong();
                self.send_to_hub(
                    PongReceived {
                        connection: self.id,
                    },
                    context,
                );
            }
            Ok(ws::Message::Close(reason)) => self.peer_closed(reason, context),
            Ok(ws::Message::Nop) => {}
            Err(ws::ProtocolError::Overflow) => {
                self.refuse(Close::new(CloseCode::TooBig, ""), context);
            }
            Err(error) => {
                tracing::debug!(connection = self.id.0, %error, "websocket error");
                // What follows a broken frame cannot be told apart any more.
                self.refuse(Close::new(CloseCode::ProtocolError, ""), context);
                context.stop();
            }
        }
    }

    fn finished(&mut self, context: &mut Self::Context) {
        context.stop();
    }
}

impl Session {
    fn peer_closed(
        &mut self,
        reason: Option<ws::CloseReason>,
        context: &mut ws::WebsocketContext<Self>,
    ) {
        let close = reason.as_ref().map_or_else(
            || Close::new(CloseCode::NoStatus, ""),
            |reason| {
                let text = reason.description.as_deref().unwrap_or("");
                Close::new(u16::from(reason.code), text)
            },
        );
        let message = CloseReceived {
            connection: self.id,
            close,
        };
        match self.phase {
            Phase::Lingering => self.send_to_hub(message, context),
            Phase::Closing | Phase::Handshake | Phase::Admitted => {
                if self.phase != Phase::Closing {
                    context.close(reason);
                }
                self.phase = Phase::Closing;
                self.send_to_hub(message, context);
                context.stop();
            }
        }
    }
}

impl Handler<Admit> for Session {
    type Result = ();

    fn handle(&mut self, _: Admit, _: &mut Self::Context) {
        if self.phase == Phase::Handshake {
            self.phase = Phase::Admitted;
        }
    }
}

impl Handler<Deliver> for Session {
    type Result = ();

    fn handle(&mut self, Deliver(text): Deliver, context: &mut Self::Context) {
        self.link.dequeue(text.len());
        if matches!(self.phase, Phase::Handshake | Phase::Admitted) {
            context.text(text);
        }
    }
}

impl Handler<Ping> for Session {
    type Result = ();

    fn handle(&mut self, _: Ping, context: &mut Self::Context) {
        match self.phase {
            Phase::Admitted => context.ping(b""),
            // Nothing is sent after a close frame, so no pong can be missed.
            Phase::Handshake | Phase::Closing | Phase::Lingering => self.link.pong(),
        }
    }
}

impl Handler<CloseWith> for Session {
    type Result = ();

    fn handle(&mut self, CloseWith(close): CloseWith, context: &mut Self::Context) {
        self.close(close, context);
    }
}

impl Handler<Inject> for Session {
    type Result = ();

    fn handle(&mut self, Inject(injection): Inject, context: &mut Self::Context) {
        self.inject(injection, context);
    }
}

/// The bytes of the response: encoded frames, and raw chunks between them.
struct Outgoing<S> {
    frames: Pin<Box<S>>,
    raw: mpsc::Receiver<Bytes>,
}

impl<S> Stream for Outgoing<S>
where
    S: Stream<Item = Result<Bytes, actix_web::Error>>,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let frames = self.frames.as_mut().poll_next(context);
        if let Poll::Ready(frames) = frames {
            return Poll::Ready(frames);
        }
        match self.raw.poll_recv(context) {
            Poll::Ready(Some(chunk)) => Poll::Ready(Some(Ok(chunk))),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
