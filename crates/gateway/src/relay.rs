//! A TCP relay that freezes, cuts and slows connections, between a node and any gateway.
//!
//! It understands nothing of what it carries but the head of the first HTTP request, into which it
//! can write a header, so it serves in front of real gateways just as well.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// How a relay is started.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The gateway.
    pub target: SocketAddr,
    /// A header written into every upgrade request, such as `X-Forwarded-For: 203.0.113.7`.
    pub header: Option<(String, String)>,
}

impl RelayOptions {
    /// A relay on a free port that changes nothing.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        Self {
            port: 0,
            target,
            header: None,
        }
    }
}

/// What happens to bytes under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They pass.
    #[default]
    Pass,
    /// Each chunk passes after this long.
    Delay(Duration),
    /// Nothing is read from either side and nothing written, TCP stays open: a half-open
    /// connection.
    Freeze,
    /// Nothing is read from the node; what the gateway sends passes. The node sees a peer that
    /// stops reading.
    DeafToNode,
    /// Nothing is read from the gateway; what the node sends passes.
    DeafToGateway,
}

/// What happens to a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acceptance {
    /// It is relayed.
    #[default]
    Relay,
    /// It is accepted and held, and nothing is ever read or answered.
    Stall,
    /// It is reset at once.
    Reset,
}

/// How live connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Reset,
    HangUp,
}

#[derive(Debug, Clone)]
struct Steering {
    acceptance: Acceptance,
    flow: Flow,
    /// Counts the ends; a connection ends when the count is not the one it started with.
    ends: u64,
    end: End,
    stop: bool,
}

/// Longest request head that is searched for the end of its first line, in bytes.
const MAX_REQUEST_LINE: usize = 8 * 1024;
/// Bytes that are carried at a time.
const CHUNK: usize = 64 * 1024;

/// A TCP relay on loopback.
pub struct Relay;

impl Relay {
    /// Starts a relay on a thread of its own and returns once it listens.
    ///
    /// # Errors
    /// When the port is taken or the thread cannot be made.
    pub async fn start(options: RelayOptions) -> io::Result<RelayHandle> {
        let (steering, steered) = watch::channel(Steering {
            acceptance: Acceptance::default(),
            flow: Flow::default(),
            ends: 0,
            end: End::Reset,
            stop: false,
        });
        let (accepted_sender, accepted) = watch::channel(0);
        let (report, started) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                match runtime {
                    Ok(runtime) => {
                        runtime.block_on(serve(options, steered, accepted_sender, report))
                    }
                    Err(error) => drop(report.send(Err(error))),
                }
            })?;
        let address = started
            .await
            .map_err(|_| io::Error::other("the relay's thread ended"))??;
        Ok(RelayHandle {
            address,
            steering,
            accepted,
            thread: Some(thread),
        })
    }
}

/// Steers a running relay. Dropping it ends the relay and every connection through it.
#[derive(Debug)]
pub struct RelayHandle {
    address: SocketAddr,
    steering: watch::Sender<Steering>,
    accepted: watch::Receiver<u64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl RelayHandle {
    /// Where the relay listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL a node connects to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Changes what happens to bytes, on live connections too.
    pub fn set_flow(&self, flow: Flow) {
        self.steering.send_modify(|steering| steering.flow = flow);
    }

    /// Changes what happens to new connections.
    pub fn set_acceptance(&self, acceptance: Acceptance) {
        self.steering
            .send_modify(|steering| steering.acceptance = acceptance);
    }

    /// Resets every live connection on both sides, stalled ones too.
    pub fn cut(&self) {
        self.end(End::Reset);
    }

    /// Ends every live connection on both sides in the orderly way of TCP, without any WebSocket
    /// close frame.
    pub fn hang_up(&self) {
        self.end(End::HangUp);
    }

    fn end(&self, end: End) {
        self.steering.send_modify(|steering| {
            steering.end = end;
            steering.ends += 1;
        });
    }

    /// How many connections have been accepted so far, whatever became of them.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        *self.accepted.borrow()
    }

    /// Waits until this many connections have been accepted in all; false when `deadline` passes
    /// first. Needs a tokio runtime with time.
    pub async fn wait_for_accepted(&self, count: u64, deadline: Duration) -> bool {
        let mut accepted = self.accepted.clone();
        let reached = accepted.wait_for(|accepted| *accepted >= count);
        matches!(tokio::time::timeout(deadline, reached).await, Ok(Ok(_)))
    }

    /// Ends the relay and waits for its thread.
    pub fn stop(mut self) {
        self.steering.send_modify(|steering| steering.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the relay's thread panicked");
        }
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        self.steering.send_modify(|steering| steering.stop = true);
    }
}

async fn serve(
    options: RelayOptions,
    steering: watch::Receiver<Steering>,
    accepted: watch::Sender<u64>,
    report: oneshot::Sender<io::Result<SocketAddr>>,
) {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await;
    let listener = match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
        Ok((address, listener)) => {
            drop(report.send(Ok(address)));
            listener
        }
        Err(error) => {
            drop(report.send(Err(error)));
            return;
        }
    };
    let mut stop = steering.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stopped = stop.wait_for(|steering| steering.stop) => {
                drop(stopped);
                return;
            }
            Ok((client, _)) = listener.accept() => {
                // What ends connections from now on ends this one too, however late it starts.
                let (acceptance, born) = {
                    let steering = steering.borrow();
                    (steering.acceptance, steering.ends)
                };
                accepted.send_modify(|accepted| *accepted += 1);
                let life = Life { steering: steering.clone(), born };
                match acceptance {
                    Acceptance::Relay => {
                        connections.spawn(carry(client, options.clone(), life));
                    }
                    Acceptance::Stall => {
                        connections.spawn(hold(client, life));
                    }
                    Acceptance::Reset => reset(client),
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Ends a connection with a reset instead of a FIN.
pub(crate) fn reset(stream: TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection ends with FIN instead of a reset");
    }
    drop(stream);
}

/// How long a connection lives: until the count of ends is not the one it was born under.
struct Life {
    steering: watch::Receiver<Steering>,
    born: u64,
}

impl Life {
    async fn ended(&mut self) -> End {
        let born = self.born;
        match self
            .steering
            .wait_for(|steering| steering.ends != born)
            .await
        {
            Ok(steering) => steering.end,
            // The relay itself is gone.
            Err(_) => End::HangUp,
        }
    }
}

async fn hold(client: TcpStream, mut life: Life) {
    if life.ended().await == End::Reset {
        reset(client);
    }
}

async fn carry(mut client: TcpStream, options: RelayOptions, mut life: Life) {
    let Ok(mut gateway) = TcpStream::connect(options.target).await else {
        reset(client);
        return;
    };
    // Delays are what the relay is told to add, never what the kernel adds.
    drop((client.set_nodelay(true), gateway.set_nodelay(true)));
    let end = {
        let (client_read, client_write) = client.split();
        let (gateway_read, gateway_write) = gateway.split();
        let upstream = Direction {
            from: client_read,
            to: gateway_write,
            deaf: Flow::DeafToNode,
            steering: life.steering.clone(),
        };
        let downstream = Direction {
            from: gateway_read,
            to: client_write,
            deaf: Flow::DeafToGateway,
            steering: life.steering.clone(),
        };
        tokio::select! {
            end = life.ended() => end,
            _ = async { tokio::join!(upstream.run(options.header), downstream.run(None)) } => {
                End::HangUp
            }
        }
    };
    if end == End::Reset {
        reset(client);
        reset(gateway);
    }
}

/// One of the two ways through a relay.
struct Direction<R, W> {
    from: R,
    to: W,
    /// The flow under which this side is not read.
    deaf: Flow,
    steering: watch::Receiver<Steering>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Direction<R, W> {
    async fn run(mut self, header: Option<(String, String)>) {
        if self.copy(header).await.is_err() {
            tracing::debug!("one side of a relayed connection broke");
        }
        // The other side learns of the end, and may still have something to say.
        drop(self.to.shutdown().await);
    }

    async fn copy(&mut self, header: Option<(String, String)>) -> io::Result<()> {
        if let Some((name, value)) = header {
            self.copy_request_line(&format!("{name}: {value}\r\n"))
                .await?;
        }
        let mut chunk = vec![0; CHUNK];
        loop {
            self.open().await;
            let length = self.from.read(&mut chunk).await?;
            let Some(bytes) = chunk.get(..length).filter(|bytes| !bytes.is_empty()) else {
                return Ok(());
            };
            if let Flow::Delay(delay) = self.open().await {
                tokio::time::sleep(delay).await;
            }
            self.to.write_all(bytes).await?;
        }
    }

    /// Waits until bytes may pass this way, and says how.
    async fn open(&mut self) -> Flow {
        let deaf = self.deaf;
        let open = |steering: &Steering| steering.flow != Flow::Freeze && steering.flow != deaf;
        match self.steering.wait_for(open).await {
            Ok(steering) => steering.flow,
            Err(_) => Flow::Pass,
        }
    }

    /// Passes the request line on and writes the header after it.
    async fn copy_request_line(&mut self, header: &str) -> io::Result<()> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < MAX_REQUEST_LINE {
            line.push(self.from.read_u8().await?);
        }
        self.to.write_all(&line).await?;
        self.to.write_all(header.as_bytes()).await
    }
}
