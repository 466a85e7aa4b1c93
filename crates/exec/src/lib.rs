//! Processes: environment, plans, spawning, capture and killing.

pub mod environment;
pub mod prepare;
pub mod request;
pub mod run;
pub mod search;
pub mod verify;
