//! Processes: environment, plans, spawning, capture and killing.

pub mod binding;
pub mod descriptors;
pub mod environment;
pub mod host;
pub mod prepare;
pub mod request;
pub mod run;
pub mod search;
pub mod verify;
