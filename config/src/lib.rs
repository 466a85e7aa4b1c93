//! Typed settings from openclaw.json, the environment and the command line.
//!
//! - [`Environment`]: the variables, as a value that is passed in.
//! - [`paths`]: where the state and the configuration are.
//! - [`browser`]: what it says about the browser proxy.
//! - [`openclaw_json`]: the keys of openclaw.json that a node obeys, read strictly.
//! - [`control_socket`]: where a running node answers questions about itself.
//! - [`credentials`]: what the operator gave to authenticate with.
//! - [`json5_text`]: JSON5 that an operator hands in.
//! - [`endpoint`], with [`fingerprint`] and [`plaintext`]: which gateway, and whether credentials
//!   may go there in the clear.
//! - [`Reach`]: what leads to that gateway and what it must prove; [`candidates`] are the
//!   endpoints of a setup code.
//! - [`profile`]: the node's id and display name.
//! - [`settings`]: the node's own settings file, for what upstream does not know.

pub mod browser;
mod candidates;
pub mod control_socket;
pub mod credentials;
mod edge_access;
pub mod endpoint;
mod environment;
pub mod fingerprint;
pub mod json5_text;
mod nesting;
pub mod openclaw_json;
pub mod paths;
pub mod plaintext;
pub mod profile;
mod proxy;
mod reach;
mod setting;
pub mod settings;

pub use browser::{BrowserProfileSettings, BrowserSettings};
pub use candidates::candidates;
pub use control_socket::{NoPlaceForSocket, control_socket};
pub use credentials::{CredentialSource, Credentials, GivenSecret};
pub use edge_access::{EdgeAccess, EdgeAccessError};
pub use endpoint::{EndpointError, EndpointFlags, GatewayScope, PlannedEndpoint, SavedEndpoint};
pub use environment::Environment;
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use json5_text::{Json5Error, parse_json5};
pub use openclaw_json::{OpenclawJson, OpenclawJsonError};
pub use paths::{Paths, PathsError};
pub use plaintext::{PlaintextRefused, allows_insecure_private_ws, check_plaintext};
pub use profile::{NodeIdPlan, display_name, plan_node_id};
pub use proxy::{InvalidProxy, Proxy};
pub use reach::{Reach, ReachError};
pub use settings::{
    ExecSettings, JournalSettings, Limits, OnDisconnect, Settings, SettingsError, TlsSettings,
};
