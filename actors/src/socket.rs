//! One WebSocket to the gateway: dialling it, and the three things that the client library leaves
//! to its user, which are joining fragments, noticing a close frame, and bounding what is queued.

mod tunnel;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_codec::{Decoder, Encoder, Framed};
use actix_http::ws;
use actix_rt::net::TcpStream;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection as TcpConnection};
use awc::BoxedSocket;
use awc::error::{ConnectError as HttpConnectError, SendRequestError, WsClientError};
use awc::http::Uri;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use nix::sys::socket::{setsockopt, sockopt};
use node_config::Reach;
use node_config::endpoint::PlannedEndpoint;
use protocol::close::{Close, CloseCode};
use protocol::connect::UPGRADE_DEADLINE;
use protocol::frame::MAX_FRAME_BYTES;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::tls::{self, Demand, Distrust, TlsError};

/// How long unacknowledged data may be in flight before the kernel declares the peer dead. Below
/// the watchdog's two ticks, so that a dead network is noticed even while we are sending.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle time before the kernel probes the peer, and the time between probes.
const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered probes after which the peer is dead.
const TCP_KEEPALIVE_PROBES: u32 = 3;
/// Longest wait for the gateway to take one message off us.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Most messages that wait to be written.
const OUTBOUND_MESSAGES: usize = 4096;
/// Most bytes that wait to be written; a gateway closes its own side at 50 MiB (wire protocol §1.2).
const OUTBOUND_BYTES: usize = 32 * 1024 * 1024;

type Socket = Framed<BoxedSocket, BoundedCodec>;

/// Why no WebSocket came to be. Each of these may heal by itself and is retried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The whole of DNS, TCP, TLS and upgrade took too long.
    #[error("no WebSocket within {}", humantime::format_duration(UPGRADE_DEADLINE))]
    Deadline,
    /// The host answered HTTP, but not with an upgrade.
    #[error("gateway rejected websocket upgrade (HTTP {status}){hint}", hint = upgrade_hint(*.status))]
    Rejected {
        /// The HTTP status.
        status: u16,
    },
    /// TLS was refused, by either side.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The upgrade was answered with nothing, or with nothing of HTTP: so does a server with TLS
    /// that is asked without.
    #[error(
        "no http answer to the websocket upgrade; check the port, and whether the server is one with tls (--tls) or without (--no-tls)"
    )]
    NoAnswer,
    /// Anything else before or within the upgrade.
    #[error("{0}")]
    Failed(String),
}

impl From<WsClientError> for DialError {
    fn from(error: WsClientError) -> Self {
        match error {
            WsClientError::InvalidResponseStatus(status) => Self::Rejected {
                status: status.as_u16(),
            },
            WsClientError::SendRequest(
                SendRequestError::Connect(HttpConnectError::Disconnected)
                | SendRequestError::Response(_),
            ) => Self::NoAnswer,
            other => tls::handshake_failure(&other)
                .map_or_else(|| Self::Failed(other.to_string()), Self::Tls),
        }
    }
}

/// What an answer that belongs to no gateway tells (wire protocol §1.6).
const fn upgrade_hint(status: u16) -> &'static str {
    match status {
        301 | 302 | 303 | 307 | 308 | 401 | 403 => {
            "; something before the gateway wants to know who asks: for Cloudflare Access set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET, and check host, port and --context-path"
        }
        404 => "; check --context-path",
        502..=504 => "; what stands before the gateway does not reach it",
        _ => "",
    }
}

/// Opens a WebSocket to `endpoint` with a connector, a DNS lookup and a TCP connection of its own,
/// so that nothing of an earlier attempt can stick.
///
/// # Errors
/// [`DialError`], within [`UPGRADE_DEADLINE`].
pub(crate) async fn dial(
    endpoint: &PlannedEndpoint,
    reach: &Reach,
) -> Result<(Outbound, Writer, Messages), DialError> {
    let socket = timeout(UPGRADE_DEADLINE, upgrade(endpoint, reach, Demand::Proof))
        .await
        .map_err(|_| DialError::Deadline)??;
    let (sink, stream) = socket.split();
    let (sender, receiver) = mpsc::channel(OUTBOUND_MESSAGES);
    let queued_bytes = Rc::new(Cell::new(0));
    Ok((
        Outbound {
            sender,
            queued_bytes: Rc::clone(&queued_bytes),
        },
        Writer {
            sink,
            receiver,
            queued_bytes,
        },
        Messages {
            stream,
            fragments: None,
            ended: false,
        },
    ))
}

/// Looks at the certificate of the server at `endpoint`. It is told nothing.
///
/// # Errors
/// [`DialError`], within [`UPGRADE_DEADLINE`].
pub(crate) async fn certificate_of(
    endpoint: &PlannedEndpoint,
    reach: &Reach,
) -> Result<String, DialError> {
    let upgrade = upgrade(endpoint, reach, Demand::Certificate);
    match timeout(UPGRADE_DEADLINE, upgrade).await {
        Err(_) => Err(DialError::Deadline),
        Ok(Err(DialError::Tls(TlsError::Distrusted(Distrust::Shown { presented })))) => {
            Ok(presented)
        }
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) => Err(DialError::Tls(TlsError::NoCertificate)),
    }
}

async fn upgrade(
    endpoint: &PlannedEndpoint,
    reach: &Reach,
    demand: Demand,
) -> Result<Socket, DialError> {
    let client = client(endpoint, reach, demand).await?;
    let mut request = client.ws(endpoint.url()).max_frame_size(MAX_FRAME_BYTES);
    for (name, value) in edge_headers(reach) {
        request = request.set_header(name, value.expose_secret());
    }
    let (_, socket) = request.connect().await?;
    Ok(socket.into_map_codec(BoundedCodec))
}

/// The headers for an edge before the gateway; there are none unless the connection has TLS.
pub(crate) fn edge_headers(reach: &Reach) -> impl Iterator<Item = (&'static str, &SecretString)> {
    reach.edge_access.iter().flat_map(|access| {
        [
            ("CF-Access-Client-Id", &access.client_id),
            ("CF-Access-Client-Secret", &access.client_secret),
        ]
    })
}

/// An HTTP client for one endpoint, which follows no redirect.
pub(crate) async fn client(
    endpoint: &PlannedEndpoint,
    reach: &Reach,
    demand: Demand,
) -> Result<awc::Client, TlsError> {
    let host = endpoint.host().to_owned();
    let port = endpoint.port();
    let proxy = reach.proxy.clone();
    let connect = actix_service::fn_service(move |request: ConnectInfo<Uri>| {
        let host = host.clone();
        let proxy = proxy.clone();
        async move {
            let stream = match proxy {
                Some(proxy) => tunnel::open(&proxy, &host, port).await?,
                None => open_tcp(&host, port).await?,
            };
            let uri = tls::handshake_uri(request.request());
            Ok::<_, ConnectError>(TcpConnection::new(uri, stream))
        }
    });
    let mut connector = awc::Connector::new()
        .connector(connect)
        .timeout(UPGRADE_DEADLINE)
        .handshake_timeout(UPGRADE_DEADLINE);
    if endpoint.tls() {
        let config = tls::client_config(endpoint, &reach.tls, demand).await?;
        connector = connector.rustls_0_23(config);
    }
    Ok(awc::Client::builder()
        .no_default_headers()
        .disable_redirects()
        .connector(connector)
        .finish())
}

/// The library's codec, which collects a whole frame before it finds it too large; this one refuses
/// a frame by its header, so that an announced gigabyte is never read.
struct BoundedCodec(ws::Codec);

/// The payload length that a frame's header announces, once enough of it is there (RFC 6455 §5.2).
fn announced_length(header: &[u8]) -> Option<u64> {
    match (*header.get(1)? & 0x7f, header.get(2..)?) {
        (126, rest) => rest
            .first_chunk()
            .map(|length| u64::from(u16::from_be_bytes(*length))),
        (127, rest) => rest.first_chunk().map(|length| u64::from_be_bytes(*length)),
        (length, _) => Some(u64::from(length)),
    }
}

impl Decoder for BoundedCodec {
    type Item = ws::Frame;
    type Error = ws::ProtocolError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<ws::Frame>, ws::ProtocolError> {
        let is_too_long = |length| usize::try_from(length).map_or(true, |l| l > MAX_FRAME_BYTES);
        if announced_length(source).is_some_and(is_too_long) {
            return Err(ws::ProtocolError::Overflow);
        }
        self.0.decode(source)
    }
}

impl Encoder<ws::Message> for BoundedCodec {
    type Error = ws::ProtocolError;

    fn encode(
        &mut self,
        message: ws::Message,
        target: &mut BytesMut,
    ) -> Result<(), ws::ProtocolError> {
        self.0.encode(message, target)
    }
}

async fn open_tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| {
            ConnectError::Resolver(format!("cannot resolve \"{host}\": {error}").into())
        })?
        .collect();
    // An address that swallows everything, as a broken IPv6 does, must leave time for the next.
    let shares = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let share = UPGRADE_DEADLINE / shares.saturating_add(1);
    let mut last_error = ConnectError::NoRecords;
    for address in addresses {
        let connected = timeout(share, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                tune(&stream).map_err(|errno| ConnectError::Io(errno.into()))?;
                return Ok(stream);
            }
            Err(error) => {
                last_error = ConnectError::Io(io::Error::new(
                    error.kind(),
                    format!("cannot connect to {address}: {error}"),
                ));
            }
        }
    }
    Err(last_error)
}

/// Makes small frames leave at once, and a dead peer noticed by the kernel.
fn tune(stream: &TcpStream) -> nix::Result<()> {
    let whole_seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::TcpNoDelay, &true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(
        stream,
        sockopt::TcpKeepInterval,
        &whole_seconds(TCP_KEEPALIVE_INTERVAL),
    )?;
    setsockopt(stream, sockopt::TcpKeepCount, &TCP_KEEPALIVE_PROBES)?;
    #[cfg(target_os = "linux")]
    {
        let millis = u32::try_from(TCP_USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        setsockopt(stream, sockopt::TcpUserTimeout, &millis)?;
        setsockopt(
            stream,
            sockopt::TcpKeepIdle,
            &whole_seconds(TCP_KEEPALIVE_IDLE),
        )?;
    }
    #[cfg(target_os = "macos")]
    setsockopt(
        stream,
        sockopt::TcpKeepAlive,
        &whole_seconds(TCP_KEEPALIVE_IDLE),
    )?;
    Ok(())
}

/// The gateway does not take what we send; the connection is as good as dead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway does not read what this node sends")]
pub(crate) struct OutboundFull;

/// Where the connection actor puts what is to be sent.
#[derive(Debug)]
pub(crate) struct Outbound {
    sender: mpsc::Sender<ws::Message>,
    /// Bytes that the [`Writer`] has not taken yet.
    queued_bytes: Rc<Cell<usize>>,
}

impl Outbound {
    /// Queues one text message.
    pub(crate) fn text(&self, text: String) -> Result<(), OutboundFull> {
        let bytes = self.queued_bytes.get().saturating_add(text.len());
        if bytes > OUTBOUND_BYTES {
            return Err(OutboundFull);
        }
        self.sender
            .try_send(ws::Message::Text(text.into()))
            .map_err(|_| OutboundFull)?;
        self.queued_bytes.set(bytes);
        Ok(())
    }

    /// Answers a ping.
    pub(crate) fn pong(&self, payload: Bytes) -> Result<(), OutboundFull> {
        self.sender
            .try_send(ws::Message::Pong(payload))
            .map_err(|_| OutboundFull)
    }

    /// Queues a close frame; the writer ends after it.
    pub(crate) fn close(&self, close: &Close) -> Result<(), OutboundFull> {
        let reason = ws::CloseReason {
            code: ws::CloseCode::from(u16::from(close.code)),
            description: (!close.reason.is_empty()).then(|| close.reason.clone()),
        };
        self.sender
            .try_send(ws::Message::Close(Some(reason)))
            .map_err(|_| OutboundFull)
    }
}

/// The sending half of the socket; polled by the connection actor until it ends.
pub(crate) struct Writer {
    sink: SplitSink<Socket, ws::Message>,
    receiver: mpsc::Receiver<ws::Message>,
    queued_bytes: Rc<Cell<usize>>,
}

impl Writer {
    /// Writes what is queued until a close frame was written or the connection actor is gone.
    ///
    /// # Errors
    /// Why the socket takes no more.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        while let Some(message) = self.receiver.recv().await {
            let closing = matches!(message, ws::Message::Close(_));
            timeout(WRITE_DEADLINE, self.write_batch(message))
                .await
                .map_err(|_| OutboundFull.to_string())??;
            if closing {
                break;
            }
        }
        Ok(())
    }

    /// Writes a message and whatever queued up behind it, with one flush.
    async fn write_batch(&mut self, first: ws::Message) -> Result<(), String> {
        let mut next = Some(first);
        while let Some(message) = next {
            if let ws::Message::Text(text) = &message {
                self.queued_bytes
                    .set(self.queued_bytes.get().saturating_sub(text.len()));
            }
            let closing = matches!(message, ws::Message::Close(_));
            self.sink
                .feed(message)
                .await
                .map_err(|error| error.to_string())?;
            next = if closing {
                None
            } else {
                self.receiver.try_recv().ok()
            };
        }
        self.sink.flush().await.map_err(|error| error.to_string())
    }
}

/// A whole message, or the end.
#[derive(Debug)]
pub(crate) enum Message {
    /// A text message, joined from its fragments.
    Text(String),
    /// A ping that wants a pong with the same payload.
    Ping(Bytes),
    /// Something that proves the peer alive and means nothing else.
    Alive,
    /// Something that a gateway does not send; what it was, for the log.
    Ignored(&'static str),
    /// The last message: a close frame, a broken stream or its end.
    Closed(Close),
}

/// The receiving half of the socket. It ends after [`Message::Closed`], whether or not the peer
/// ends TCP after its close frame.
pub(crate) struct Messages {
    stream: SplitStream<Socket>,
    fragments: Option<Fragments>,
    ended: bool,
}

struct Fragments {
    text: bool,
    joined: BytesMut,
}

fn text_of(bytes: Bytes) -> Message {
    match String::from_utf8(Vec::from(bytes)) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Ignored("text that is not UTF-8"),
    }
}

impl Messages {
    fn end(&mut self, close: Close) -> Message {
        self.ended = true;
        Message::Closed(close)
    }

    fn join(&mut self, item: ws::Item) -> Message {
        match item {
            ws::Item::FirstText(first) | ws::Item::FirstBinary(first)
                if self.fragments.is_some() =>
            {
                drop(first);
                self.end(Close::new(
                    CloseCode::ProtocolError,
                    "a message began inside another",
                ))
            }
            ws::Item::FirstText(first) => {
                self.fragments = Some(Fragments {
                    text: true,
                    joined: BytesMut::from(first),
                });
                Message::Alive
            }
            ws::Item::FirstBinary(first) => {
                self.fragments = Some(Fragments {
                    text: false,
                    joined: BytesMut::from(first),
                });
                Message::Alive
            }
            ws::Item::Continue(part) => self.append(&part).unwrap_or(Message::Alive),
            ws::Item::Last(part) => match self.append(&part) {
                Some(end) => end,
                None => match self.fragments.take() {
                    Some(Fragments { text: true, joined }) => text_of(joined.freeze()),
                    Some(Fragments { text: false, .. }) => Message::Ignored("binary message"),
                    None => self.end(Close::new(
                        CloseCode::ProtocolError,
                        "no message to continue",
                    )),
                },
            },
        }
    }

    /// Adds a fragment; the end of the connection if the whole grows too large.
    fn append(&mut self, part: &[u8]) -> Option<Message> {
        let fragments = self.fragments.as_mut()?;
        if fragments.joined.len().saturating_add(part.len()) > MAX_FRAME_BYTES {
            return Some(self.end(Close::new(CloseCode::TooBig, "message too large")));
        }
        fragments.joined.extend_from_slice(part);
        None
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = match ready!(self.stream.poll_next_unpin(context)) {
            Some(Ok(ws::Frame::Text(bytes))) => text_of(bytes),
            Some(Ok(ws::Frame::Binary(_))) => Message::Ignored("binary message"),
            Some(Ok(ws::Frame::Continuation(item))) => self.join(item),
            Some(Ok(ws::Frame::Ping(payload))) => Message::Ping(payload),
            Some(Ok(ws::Frame::Pong(_))) => Message::Alive,
            Some(Ok(ws::Frame::Close(reason))) => {
                let close = reason.map_or_else(
                    || Close::new(CloseCode::NoStatus, ""),
                    |reason| {
                        let text = reason.description.unwrap_or_default();
                        Close::new(u16::from(reason.code), &text)
                    },
                );
                self.end(close)
            }
            Some(Err(ws::ProtocolError::Overflow)) => self.end(Close::new(
                CloseCode::TooBig,
                "the gateway sent a frame over the limit",
            )),
            Some(Err(error)) => self.end(Close::new(CloseCode::Abnormal, &error.to_string())),
            None => self.end(Close::abnormal()),
        };
        Poll::Ready(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Option<ws::Frame>, ws::ProtocolError> {
        let codec = ws::Codec::new().client_mode().max_size(MAX_FRAME_BYTES);
        BoundedCodec(codec).decode(&mut BytesMut::from(bytes))
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header_alone() {
        let header = |length: u64| [[0x81, 127].as_slice(), &length.to_be_bytes()].concat();
        let limit = u64::try_from(MAX_FRAME_BYTES).unwrap();
        for length in [limit + 1, 1 << 40, u64::MAX] {
            let refused = decode(&header(length));
            assert!(
                matches!(refused, Err(ws::ProtocolError::Overflow)),
                "{length}: {refused:?}"
            );
        }
        assert!(
            matches!(decode(&header(limit)), Ok(None)),
            "the limit itself is awaited"
        );
    }

    #[test]
    fn frames_of_every_length_form_are_read() {
        for length in [0_usize, 125, 126, 65_535, 65_536] {
            let head = match length {
                0..126 => vec![0x81, u8::try_from(length).unwrap()],
                126..65_536 => [
                    [0x81, 126].as_slice(),
                    &u16::try_from(length).unwrap().to_be_bytes(),
                ]
                .concat(),
                _ => [
                    [0x81, 127].as_slice(),
                    &u64::try_from(length).unwrap().to_be_bytes(),
                ]
                .concat(),
            };
            let frame = decode(&[head, vec![b'a'; length]].concat()).unwrap();
            assert_eq!(
                frame,
                Some(ws::Frame::Text(Bytes::from(vec![b'a'; length])))
            );
        }
        for incomplete in [&[][..], &[0x81], &[0x81, 126, 0], &[0x81, 127, 0, 0]] {
            assert!(matches!(decode(incomplete), Ok(None)));
        }
    }
}
