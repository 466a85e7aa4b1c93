//! The WebSocket to a browser: dialling it, and joining fragments.

use std::time::Duration;

use actix_codec::Framed;
use actix_http::ws;
use awc::BoxedSocket;
use awc::error::WsClientError;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::timeout;

/// The largest message that is taken from a browser, in bytes. Screenshots and accessibility trees
/// arrive in one frame.
const MAX_MESSAGE_BYTES: usize = 128 * 1024 * 1024;

/// Why there is no WebSocket to a browser.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// It took too long.
    #[error("no WebSocket within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// It was refused, or nobody listens.
    #[error("{0}")]
    Refused(String),
}

impl From<WsClientError> for DialError {
    fn from(error: WsClientError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// What arrives.
pub(super) enum Incoming {
    /// A whole message.
    Message(Bytes),
    /// A ping that wants its payload back.
    Ping(Bytes),
    /// The end, and why.
    Closed(String),
}

/// A WebSocket to a browser.
pub(super) struct Socket {
    framed: Framed<BoxedSocket, ws::Codec>,
    joined: BytesMut,
}

impl Socket {
    pub(super) async fn dial(url: &str, deadline: Duration) -> Result<Self, DialError> {
        // Without default headers, because a browser refuses an Origin that it was not told.
        let client = awc::Client::builder()
            .no_default_headers()
            .timeout(deadline)
            .finish();
        let connect = client.ws(url).max_frame_size(MAX_MESSAGE_BYTES).connect();
        let (_, framed) = timeout(deadline, connect)
            .await
            .map_err(|_| DialError::Deadline(deadline))??;
        Ok(Self {
            framed,
            joined: BytesMut::new(),
        })
    }

    pub(super) async fn send(&mut self, text: String) -> Result<(), String> {
        self.write(ws::Message::Text(text.into())).await
    }

    pub(super) async fn pong(&mut self, payload: Bytes) -> Result<(), String> {
        self.write(ws::Message::Pong(payload)).await
    }

    async fn write(&mut self, message: ws::Message) -> Result<(), String> {
        self.framed
            .send(message)
            .await
            .map_err(|error| error.to_string())
    }

    /// The next message; safe to drop while it is waited for.
    pub(super) async fn next(&mut self) -> Incoming {
        loop {
            let frame = match self.framed.next().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Incoming::Closed(error.to_string()),
                None => return Incoming::Closed("the browser closed the connection".to_owned()),
            };
            match frame {
                ws::Frame::Text(text) | ws::Frame::Binary(text) => return Incoming::Message(text),
                ws::Frame::Ping(payload) => return Incoming::Ping(payload),
                ws::Frame::Pong(_) => {}
                ws::Frame::Close(_) => {
                    return Incoming::Closed("the browser closed the connection".to_owned());
                }
                ws::Frame::Continuation(item) => match item {
                    ws::Item::FirstText(part) | ws::Item::FirstBinary(part) => {
                        self.joined = BytesMut::from(&*part);
                    }
                    ws::Item::Continue(part) => {
                        if let Err(reason) = self.append(&part) {
                            return Incoming::Closed(reason);
                        }
                    }
                    ws::Item::Last(part) => {
                        return match self.append(&part) {
                            Ok(()) => Incoming::Message(self.joined.split().freeze()),
                            Err(reason) => Incoming::Closed(reason),
                        };
                    }
                },
            }
        }
    }

    fn append(&mut self, part: &[u8]) -> Result<(), String> {
        if self.joined.len().saturating_add(part.len()) > MAX_MESSAGE_BYTES {
            return Err("the browser sent a message over the limit".to_owned());
        }
        self.joined.extend_from_slice(part);
        Ok(())
    }
}
