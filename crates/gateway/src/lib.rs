//! A gateway on loopback and an operator client, for demo, tests and benchmarks.
//!
//! The gateway behaves as the real ones do, as far as a node can tell: the handshake with its
//! exact refusals, both approval gates, invokes, approvals of single runs, restarts. It keeps
//! everything in memory. What it sees can be waited for, and it can be told to misbehave.
//!
//! - [`Gateway`] and [`GatewayHandle`]: start, steer, look.
//! - [`Faults`], [`Injection`] and [`relay`]: misbehave.
//! - [`Operator`]: the other side's client, which speaks to real gateways just as well.
//!
//! Section numbers in comments refer to the wire protocol as measured on gateways 2026.5.20 and
//! 2026.9.6.

#![expect(
    clippy::result_large_err,
    reason = "refusals are made a few times per connection, and boxes would hide what they say"
)]

mod approval;
mod auth;
mod clock;
mod connect;
mod dispatch;
mod error;
mod faults;
mod frame;
mod handle;
mod handshake;
mod hub;
mod invoke;
mod link;
mod mailbox;
mod node_methods;
pub mod operator;
mod operator_methods;
mod options;
mod pairing;
mod record;
pub mod relay;
mod schema;
mod server;
mod session;
mod surface;
mod watch;
mod wish;

pub use auth::AuthMethod;
pub use connect::Role;
pub use dispatch::RawInvoke;
pub use faults::{AcceptFault, Faults, Injection, UpgradeRefusal};
pub use handle::{AdmitError, CallError, Gateway, GatewayHandle, StartError, Stopped};
pub use operator::{Operator, OperatorAuth, OperatorError};
pub use options::{
    AuthMode, Cidr, DEFAULT_TOKEN, GatewayOptions, NotACidr, PairingPolicy, RateLimit, Release,
    Timing,
};
pub use pairing::BootstrapProfile;
pub use record::{NodeView, Record, Recorded, Snapshot, WaitError};
pub use session::ConnectionId;
pub use surface::Surface;
