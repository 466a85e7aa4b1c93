//! What decides, beside the endpoint, how a gateway is reached and what it must prove.

use crate::settings::TlsSettings;
use crate::{EdgeAccess, EdgeAccessError, Environment, InvalidProxy, PlannedEndpoint, Proxy};

/// The way to one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// What a `wss` gateway must prove, beside the endpoint's own pin.
    pub tls: TlsSettings,
    /// The proxy that it goes through.
    pub proxy: Option<Proxy>,
    /// What an edge before it wants to see.
    pub edge_access: Option<EdgeAccess>,
}

/// Why there is no way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// A pin of the settings file would not be looked at.
    #[error(
        "gateway tls fingerprint requires wss:// gateway url; use --tls, or remove tls.pins from openclaw-node.json5"
    )]
    PinWithoutTls,
    /// The proxy cannot be used.
    #[error(transparent)]
    Proxy(#[from] InvalidProxy),
    /// The edge's credentials cannot be used.
    #[error(transparent)]
    EdgeAccess(#[from] EdgeAccessError),
}

impl Reach {
    /// The way to `endpoint`, by the settings file and the environment.
    ///
    /// # Errors
    /// [`ReachError`], whose text is ready for the operator.
    pub fn to(
        endpoint: &PlannedEndpoint,
        tls: TlsSettings,
        environment: &Environment,
    ) -> Result<Self, ReachError> {
        if !endpoint.tls() && !tls.pins.is_empty() {
            return Err(ReachError::PinWithoutTls);
        }
        Ok(Self {
            tls,
            proxy: Proxy::to(endpoint, environment)?,
            edge_access: EdgeAccess::for_endpoint(endpoint, environment)?,
        })
    }
}
