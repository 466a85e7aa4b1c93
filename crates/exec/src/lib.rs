//! Processes: environment, plans, spawning, capture and killing.

pub mod allocator;
pub mod binding;
pub mod census;
pub mod cgroup;
pub mod clearance;
#[cfg(target_os = "linux")]
pub mod code_pages;
pub mod descriptors;
pub mod environment;
pub mod explanation;
pub mod host;
pub mod mark;
pub mod orphans;
pub mod prepare;
pub mod request;
pub mod run;
pub mod search;
pub mod survivors;
pub mod verify;
