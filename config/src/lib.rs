//! Typed settings from openclaw.json, the environment and the command line.
//!
//! - [`Configuration`]: all of it, read in the right order.
//! - [`Environment`]: the variables, as a value that is passed in, with what lies beneath them.
//! - [`paths`]: where the state and the configuration are.
//! - [`browser`]: what it says about the browser proxy.
//! - [`openclaw_json`]: the keys of openclaw.json that a node obeys, read strictly.
//! - [`credentials`]: which place supplies what a gateway wants to see, and [`secret_provider`]
//!   for what stands there as a reference.
//! - [`mod@control_socket`]: where a running node answers questions about itself.
//! - [`json5_text`]: JSON5 that an operator hands in.
//! - [`endpoint`], with [`fingerprint`] and [`plaintext`]: which gateway, and whether credentials
//!   may go there in the clear.
//! - [`Reach`]: what leads to that gateway and what it must prove; [`candidates`] are the
//!   endpoints of a setup code.
//! - [`profile`]: the node's id and display name.
//! - [`settings`]: the node's own settings file, for what upstream does not know.

pub mod browser;
mod candidates;
mod configuration;
pub mod control_socket;
pub mod credentials;
mod document;
mod edge_access;
pub mod endpoint;
mod env_file;
mod environment;
pub mod fingerprint;
mod include;
pub mod json5_text;
mod lines;
mod nesting;
pub mod openclaw_json;
pub mod paths;
pub mod plaintext;
pub mod profile;
mod proxy;
mod reach;
pub mod secret_provider;
mod setting;
pub mod settings;
mod substitution;
mod text_file;

pub use browser::{BrowserProfileSettings, BrowserSettings};
pub use candidates::candidates;
pub use configuration::{Configuration, ConfigurationError};
pub use control_socket::{NoPlaceForSocket, control_socket};
pub use credentials::{
    CredentialError, CredentialKind, CredentialQuery, CredentialSource, Credentials, GivenSecret,
    PassedOver,
};
pub use edge_access::{EdgeAccess, EdgeAccessError};
pub use endpoint::{EndpointError, EndpointFlags, GatewayScope, PlannedEndpoint, SavedEndpoint};
pub use env_file::{EnvFileError, VariablesFile, env_file_lines, unit_file_variables};
pub use environment::{Environment, VariableOrigin};
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
