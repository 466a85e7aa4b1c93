//! The flags that say which gateway, for every command that needs to know.

use clap::Args;
use node_config::{Configuration, EndpointFlags, SavedEndpoint};

#[derive(Debug, Clone, Args)]
pub(super) struct EndpointArguments {
    /// The gateway's host name or IP address [default: the saved one, else 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The gateway's port [default: the saved one, else 18789]
    #[arg(long, value_name = "PORT", allow_hyphen_values = true)]
    port: Option<String>,
    /// Connect with TLS (wss)
    #[arg(long, overrides_with = "no_tls")]
    tls: bool,
    /// Connect without TLS
    #[arg(long, overrides_with = "tls")]
    no_tls: bool,
    /// Accept exactly this certificate; implies --tls
    #[arg(long, value_name = "SHA256")]
    tls_fingerprint: Option<String>,
    /// Path of the gateway behind its host; empty clears the saved one
    #[arg(long, value_name = "PATH")]
    context_path: Option<String>,
}

impl EndpointArguments {
    /// What the flags alone say.
    pub(super) fn flags(&self) -> EndpointFlags {
        EndpointFlags {
            host: self.host.clone(),
            port: self.port.clone(),
            tls: match (self.tls, self.no_tls) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            },
            tls_fingerprint: self.tls_fingerprint.clone(),
            context_path: self.context_path.clone(),
            tls_by_default: false,
        }
    }

    /// The flags above what openclaw.json says.
    pub(super) fn flags_over(&self, configuration: &Configuration) -> EndpointFlags {
        EndpointFlags {
            tls_by_default: configuration.openclaw_json.gateway.tls_enabled,
            ..self.flags()
        }
    }
}

/// The endpoint that an earlier run saved, as the planner takes it.
pub(super) fn saved_endpoint(saved: &state::SavedEndpoint) -> SavedEndpoint {
    SavedEndpoint {
        host: saved.host.clone(),
        port: saved.port,
        tls: saved.tls,
        fingerprint: saved
            .tls_fingerprint
            .as_deref()
            .and_then(|pin| pin.parse().ok()),
        context_path: saved.context_path.clone(),
    }
}
