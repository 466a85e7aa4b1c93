//! What a gateway can be told to do wrong, and what it can be told to throw at one node.
//!
//! Faults below WebSocket (a frozen, cut or slow TCP connection) are the business of
//! [`relay`](crate::relay).

use bytes::Bytes;
use protocol::close::Close;

/// What the gateway does wrong for every connection, until told otherwise.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// What happens to a TCP connection before any byte is exchanged.
    pub accept: AcceptFault,
    /// Answer the WebSocket upgrade with this instead of accepting it.
    pub refuse_upgrade: Option<UpgradeRefusal>,
    /// Accept the upgrade and never send `connect.challenge`.
    pub withhold_challenge: bool,
    /// Read the connect request and never answer it.
    pub withhold_hello: bool,
    /// Send no tick events.
    pub withhold_ticks: bool,
    /// Send no WebSocket pings.
    pub withhold_pings: bool,
    /// Never answer what an admitted node requests, such as `node.event`.
    pub withhold_answers: bool,
    /// Refuse connect requests as a gateway that is still starting does: 1013 (§9).
    pub starting: bool,
}

/// What happens to a new TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcceptFault {
    /// Nothing: it is served.
    #[default]
    None,
    /// It is accepted and held, and nothing is ever read or answered.
    Stall,
    /// It is reset at once.
    Reset,
}

/// An HTTP answer in place of the upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeRefusal {
    /// HTTP status, such as 502.
    pub status: u16,
    /// `Location` header of a redirect.
    pub location: Option<String>,
    /// The body, sent as `application/json` when it starts with `{`, else as plain text.
    pub body: String,
}

/// Something thrown at one live connection.
#[derive(Debug, Clone)]
pub enum Injection {
    /// A close frame; TCP ends when the peer answers it or after
    /// [`Timing::close`](crate::Timing::close).
    Close(Close),
    /// A close frame after which TCP stays open for good, whatever the peer answers.
    CloseAndLinger(Close),
    /// The end of TCP without a close frame.
    Hangup,
    /// A text message, which need not be a frame of the protocol.
    Text(String),
    /// One text message in several WebSocket frames.
    Fragments(Vec<String>),
    /// A binary message.
    Binary(Bytes),
    /// One whole text frame of bytes that are not UTF-8.
    InvalidUtf8,
    /// A text message of this many bytes.
    Oversized(usize),
    /// Bytes written to the TCP stream between two WebSocket frames.
    Raw(Bytes),
    /// An event frame with this name and payload.
    Event(String, serde_json::Value),
    /// A WebSocket ping with this payload.
    Ping(Bytes),
}
