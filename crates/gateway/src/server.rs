//! The listening socket and the HTTP side: TCP connections in, WebSocket sessions out.
//!
//! One thread, one actix system, no worker pool: a gateway for tests and demos has few peers, and
//! a frame that crosses no thread is the one with the least delay.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor as _, Addr};
use actix_http::{HttpService, Protocol};
use actix_service::{Service as _, ServiceFactory as _, map_config};
use actix_web::dev::AppConfig;
use actix_web::http::{StatusCode, header};
use actix_web::{App, HttpRequest, HttpResponse, web};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::faults::{AcceptFault, Faults, UpgradeRefusal};
use crate::hub::Hub;
use crate::link::Link;
use crate::mailbox::{Opened, TcpAccepted};
use crate::options::{GatewayOptions, Release, Timing};
use crate::session::{ConnectionId, Peer, Session};

/// What the listener is told to do.
#[derive(Debug)]
pub(crate) enum Control {
    /// Refuse connections for a while.
    Restart {
        /// For how long.
        down: Duration,
        /// Told once the port refuses.
        refusing: oneshot::Sender<()>,
    },
    /// End the thread.
    Stop,
}

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Stalled connections that are held open; the oldest is dropped beyond that.
const MAX_STALLED: usize = 256;
/// Control messages that may wait.
pub(crate) const CONTROL_QUEUE: usize = 16;

/// Headers that a reverse proxy adds (§1.2).
const FORWARDING_HEADERS: &[&str] = &[
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// A started server, as the thread reports it.
pub(crate) struct Started {
    pub(crate) address: SocketAddr,
    pub(crate) hub: Addr<Hub>,
}

/// Everything an upgrade needs.
#[derive(Clone)]
struct Upgrades {
    hub: Addr<Hub>,
    release: Release,
    timing: Timing,
    trust_proxy: bool,
    faults: Rc<RefCell<Faults>>,
    accepted: Rc<Cell<u64>>,
}

/// Runs a gateway on the current thread until it is told to stop.
pub(crate) async fn serve(
    options: GatewayOptions,
    mut control: mpsc::Receiver<Control>,
    started: oneshot::Sender<io::Result<Started>>,
) {
    let requested = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listening = reserve(requested).and_then(|socket| socket.listen(BACKLOG));
    let (listener, address) =
        match listening.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => (listener, address),
            Err(error) => {
                report(started, Err(error));
                return;
            }
        };
    let faults = Rc::new(RefCell::new(options.faults.clone()));
    let upgrades = Upgrades {
        release: options.release,
        timing: options.timing.clone(),
        trust_proxy: options.trust_proxy,
        faults: Rc::clone(&faults),
        accepted: Rc::new(Cell::new(0)),
        hub: Hub::new(options, Rc::clone(&faults)).start(),
    };
    let hub = upgrades.hub.clone();
    let app = App::new()
        .app_data(upgrades)
        .default_service(web::to(upgrade));
    // The link of the connection that is handed to the HTTP service at this moment.
    let next_link: Rc<RefCell<Arc<Link>>> = Rc::default();
    let connecting = Rc::clone(&next_link);
    let http = HttpService::build()
        .client_request_timeout(Duration::from_secs(5))
        .client_disconnect_timeout(Duration::from_secs(1))
        .on_connect_ext(move |_: &TcpStream, data| {
            data.insert(Arc::clone(&connecting.borrow()));
        })
        .finish(map_config(app, |()| AppConfig::default()));
    let Ok(http) = http.new_service(()).await else {
        report(
            started,
            Err(io::Error::other("the HTTP service did not start")),
        );
        return;
    };
    report(
        started,
        Ok(Started {
            address,
            hub: hub.clone(),
        }),
    );

    let mut port = Port::Open(listener);
    let mut stalled: VecDeque<TcpStream> = VecDeque::new();
    loop {
        tokio::select! {
            command = control.recv() => match command {
                None | Some(Control::Stop) => return,
                Some(Control::Restart { down, refusing }) => {
                    stalled.clear();
                    drop(port);
                    port = match reserve(address) {
                        Ok(socket) => Port::Refusing { socket, until: Instant::now() + down },
                        Err(error) => {
                            tracing::error!(%error, "the gateway lost its port");
                            return;
                        }
                    };
                    if refusing.send(()).is_err() {
                        tracing::debug!("nobody waits for the port to refuse");
                    }
                }
            },
            stream = port.accept() => {
                let Some(stream) = stream else {
                    port = match port.open() {
                        Ok(port) => port,
                        Err(error) => {
                            tracing::error!(%error, "the gateway cannot listen again");
                            return;
                        }
                    };
                    continue;
                };
                if hub.try_send(TcpAccepted).is_err() {
                    tracing::debug!("the hub is flooded, a connection is not counted");
                }
                match faults.borrow().accept {
                    AcceptFault::None => {
                        let link: Arc<Link> = Arc::default();
                        next_link.replace(Arc::clone(&link));
                        let peer = stream.peer_addr().ok();
                        // Delays are what a test asks for, never what the kernel adds.
                        drop(stream.set_nodelay(true));
                        let served = http.call((stream, Protocol::Http1, peer));
                        actix_rt::spawn(async move {
                            tokio::select! {
                                () = link.until_cut() => {}
                                served = served => if served.is_err() {
                                    tracing::debug!("an HTTP connection ended with an error");
                                },
                            }
                        });
                    }
                    AcceptFault::Stall => {
                        if stalled.len() == MAX_STALLED {
                            stalled.pop_front();
                        }
                        stalled.push_back(stream);
                    }
                    AcceptFault::Reset => crate::relay::reset(stream),
                }
            },
        }
    }
}

/// The gateway's port.
enum Port {
    Open(TcpListener),
    /// Bound without listening: nobody else gets the port, and whoever connects is refused.
    Refusing {
        socket: TcpSocket,
        until: Instant,
    },
}

impl Port {
    /// The next connection; `None` when a refusing port is due to open.
    async fn accept(&self) -> Option<TcpStream> {
        match self {
            Self::Refusing { until, .. } => {
                tokio::time::sleep_until(*until).await;
                None
            }
            Self::Open(listener) => loop {
                // A connection that broke while it waited is nothing to stop for.
                if let Ok((stream, _)) = listener.accept().await {
                    return Some(stream);
                }
            },
        }
    }

    fn open(self) -> io::Result<Self> {
        match self {
            Self::Refusing { socket, .. } => socket.listen(BACKLOG).map(Self::Open),
            open @ Self::Open(_) => Ok(open),
        }
    }
}

fn report(started: oneshot::Sender<io::Result<Started>>, result: io::Result<Started>) {
    if started.send(result).is_err() {
        tracing::debug!("nobody waits for the gateway to start");
    }
}

fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn upgrade(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let Some(upgrades) = request.app_data::<Upgrades>().cloned() else {
        return HttpResponse::InternalServerError().finish();
    };
    let refusal = upgrades.faults.borrow().refuse_upgrade.clone();
    if let Some(refusal) = refusal {
        return refuse(&refusal);
    }
    let forwarded = request
        .headers()
        .keys()
        .any(|name| FORWARDING_HEADERS.contains(&name.as_str()));
    if forwarded && !upgrades.trust_proxy && upgrades.release == Release::September {
        return refuse(&unattributed());
    }
    let mut response = match actix_web_actors::ws::handshake(&request) {
        Ok(response) => response,
        Err(error) => return HttpResponse::from_error(error),
    };
    let Some(link) = request.conn_data::<Arc<Link>>().cloned() else {
        return HttpResponse::InternalServerError().finish();
    };
    let number = upgrades.accepted.get() + 1;
    upgrades.accepted.set(number);
    let opened = Opened {
        connection: ConnectionId(number),
        session: None,
        link,
        peer: peer(&request, forwarded, upgrades.trust_proxy),
        path: request.uri().to_string(),
        headers: request
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect(),
    };
    response.streaming(Session::open(
        opened,
        upgrades.hub,
        upgrades.timing,
        payload,
    ))
}

fn peer(request: &HttpRequest, forwarded: bool, trust_proxy: bool) -> Peer {
    let direct = request
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.ip());
    let named = request
        .headers()
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok()?.split(',').next()?.trim().parse().ok());
    let address = if trust_proxy {
        named.unwrap_or(direct)
    } else {
        direct
    };
    Peer {
        address,
        is_local: direct.is_loopback() && !forwarded,
        has_origin: request.headers().contains_key(header::ORIGIN),
    }
}

/// The September release's answer to forwarding headers from a proxy it does not trust (§1.2).
fn unattributed() -> UpgradeRefusal {
    UpgradeRefusal {
        status: 403,
        location: None,
        body: r#"{"error":{"message":"Proxy client attribution is required. Configure gateway.trustedProxies narrowly and make the proxy overwrite or safely rebuild forwarded client headers.","type":"proxy_attribution_required"}}"#.to_owned(),
    }
}

fn refuse(refusal: &UpgradeRefusal) -> HttpResponse {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = HttpResponse::build(status);
    response.force_close();
    if let Some(location) = &refusal.location {
        response.insert_header((header::LOCATION, location.as_str()));
    }
    let json = refusal.body.starts_with('{');
    response
        .content_type(if json {
            "application/json; charset=utf-8"
        } else {
            "text/plain; charset=utf-8"
        })
        .body(refusal.body.clone())
}
