//! What a node and a gateway say to each other, as pure values.
//!
//! Everything in this crate is a function from values to values: no socket, no clock, no file.
//! Section numbers in comments refer to the wire protocol as measured on gateways 2026.5.20 to
//! 2026.9.6; `docs/protocol.md` keeps the summary.
//!
//! The life of a connection, in the order of the modules:
//!
//! 1. [`frame`]: text frames, requests, responses and events.
//! 2. [`connect`]: the challenge and the one `connect` request that answers it, with the
//!    credentials of [`credentials`] and the proof of [`identity`].
//! 3. [`hello`], or [`failure`]: what the gateway answers, and what class of failure that is.
//! 4. [`invoke`] and [`event`]: the traffic afterwards.
//!    [`setup_code`] is how a gateway lets a device in without an operator.
//! 5. [`close`] and [`reconnect`]: how it ends, and what happens next; [`pairing`] is the pause
//!    in which an operator has to act.

pub mod close;
pub mod connect;
pub mod credentials;
pub mod event;
pub mod failure;
pub mod frame;
pub mod hello;
pub mod identity;
pub mod invoke;
pub mod pairing;
pub mod reconnect;
pub mod setup_code;
pub mod skills;
pub mod surface;
