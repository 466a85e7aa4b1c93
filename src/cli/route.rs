//! Which gateway a run goes to, by which way, and where else the same gateway may be.

use node_config::{
    EndpointFlags, Environment, PlannedEndpoint, Reach, SavedEndpoint, TlsSettings,
    allows_insecure_private_ws, check_plaintext,
};
use tracing::warn;

use super::setup::WayIn;
use crate::exit::Failure;

/// A gateway, with the way to it.
#[derive(Debug)]
pub(super) struct Route {
    /// Where it is tried first.
    pub(super) endpoint: PlannedEndpoint,
    /// How.
    pub(super) reach: Reach,
    /// Where it is tried next, as its setup code says.
    pub(super) alternatives: Vec<(PlannedEndpoint, Reach)>,
}

impl Route {
    /// The route to one endpoint.
    ///
    /// # Errors
    /// When nothing may be sent there as things are configured; nothing was.
    pub(super) fn to(
        endpoint: PlannedEndpoint,
        tls: &TlsSettings,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let reach = reach(&endpoint, tls, environment)?;
        Ok(Self {
            endpoint,
            reach,
            alternatives: Vec::new(),
        })
    }

    /// The route that a setup code opens. Flags that say which gateway win over it, and then it
    /// names no others.
    ///
    /// # Errors
    /// As [`Route::to`], when that holds for every endpoint of the code.
    pub(super) fn by_setup_code(
        way_in: &WayIn,
        flags: &EndpointFlags,
        tls: &TlsSettings,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        if *flags != EndpointFlags::default() {
            let first = way_in.endpoints.first().map(PlannedEndpoint::to_saved);
            let endpoint = planned(flags, first.as_ref(), environment)?;
            return Self::to(endpoint, tls, environment);
        }
        let mut usable = Vec::new();
        let mut refusals = Vec::new();
        for (index, endpoint) in way_in.endpoints.iter().enumerate() {
            match reach(endpoint, tls, environment) {
                Ok(mut reach) => {
                    // An edge's credentials belong to the edge that the code names first.
                    if index > 0 {
                        reach.edge_access = None;
                    }
                    usable.push((endpoint.clone(), reach));
                }
                Err(refused) => refusals.push((endpoint.url(), refused)),
            }
        }
        let mut usable = usable.into_iter();
        let Some((endpoint, reach)) = usable.next() else {
            let refused = refusals.into_iter().next().map(|(_, refused)| refused);
            return Err(refused.unwrap_or_else(|| Failure::new("the setup code names no gateway")));
        };
        for (url, refused) in refusals {
            warn!(
                target: actors::OPERATOR_LINES,
                "{url} of the setup code is left out: {refused}"
            );
        }
        Ok(Self {
            endpoint,
            reach,
            alternatives: usable.collect(),
        })
    }
}

fn reach(
    endpoint: &PlannedEndpoint,
    tls: &TlsSettings,
    environment: &Environment,
) -> Result<Reach, Failure> {
    let failed = |refused: &dyn std::fmt::Display| {
        Failure::new(format_args!("node host gateway connect failed: {refused}"))
    };
    check_plaintext(endpoint, allows_insecure_private_ws(environment))
        .map_err(|refused| failed(&refused))?;
    Reach::to(endpoint, tls.clone(), environment).map_err(|refused| failed(&refused))
}

/// The endpoint of the flags over a saved one.
///
/// # Errors
/// Wrong flags.
pub(super) fn planned(
    flags: &EndpointFlags,
    saved: Option<&SavedEndpoint>,
    environment: &Environment,
) -> Result<PlannedEndpoint, Failure> {
    PlannedEndpoint::plan(flags, saved).map_err(|error| Failure::usage(error, environment))
}
