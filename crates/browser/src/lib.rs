//! The browser proxy: an agent drives this machine's browser (browser proxy §1 to §8).
//!
//! ```text
//! proxy    what the gateway asks for: envelope, checks, files, the two layers of errors
//! control  the profiles of this node, and the browsers that run
//! browser  one profile and its browser: starting, stopping, its tabs
//! tab      one page: its session, what it said, its dialogs
//! routes   GET /tabs, POST /navigate, …: one file per noun
//! navigation  where pages may go
//! cdp      the protocol that the browser speaks
//! ```
//!
//! Everything runs on one thread and nothing before the first call. Dropping the future of a call
//! cancels what it does.

pub mod act;
pub mod browser;
pub mod cdp;
mod coerce;
pub mod control;
mod element;
pub mod endpoint;
pub mod executable;
pub mod launch;
pub mod navigation;
pub mod profile;
pub mod proxy;
pub mod request;
pub mod routes;
pub mod snapshot;
pub mod tab;
mod timestamp;
