//! `pin`: the fingerprint of the certificate that a gateway shows, to compare it on the gateway's
//! own machine before it is trusted.

use clap::Args;
use node_config::{EndpointFlags, Environment, Fingerprint, PlannedEndpoint, Reach, TlsSettings};

use super::output;
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The gateway
    #[arg(value_name = "HOST:PORT")]
    address: String,
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    let endpoint = endpoint(&arguments.address).ok_or_else(|| {
        Failure::usage(
            "Invalid HOST:PORT, for example gateway.example:18789 or [::1]:18789.",
            environment,
        )
    })?;
    let mut reach =
        Reach::to(&endpoint, TlsSettings::default(), environment).map_err(Failure::new)?;
    reach.edge_access = None;
    let shown = actix::System::new()
        .block_on(actors::reach::certificate_of(&endpoint, &reach))
        .map_err(Failure::new)?;
    let fingerprint: Fingerprint = shown.parse().map_err(Failure::new)?;
    output::line(format_args!("sha256:{fingerprint}"));
    Ok(Exit::Done)
}

/// A host with its port; nothing is guessed, because the wrong one has a certificate as well.
fn endpoint(address: &str) -> Option<PlannedEndpoint> {
    let (host, port) = address.trim().rsplit_once(':')?;
    let is_bare_ipv6 = host.contains(':') && !host.ends_with(']');
    let flags = EndpointFlags {
        host: (!host.is_empty() && !is_bare_ipv6).then(|| host.to_owned()),
        port: Some(port.to_owned()),
        tls: Some(true),
        ..EndpointFlags::default()
    };
    flags.host.as_ref()?;
    PlannedEndpoint::plan(&flags, None)
        .ok()
        .filter(|_| !port.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_both_needed() {
        let url = |text| endpoint(text).map(|endpoint| endpoint.url());
        assert_eq!(url("gateway:443").as_deref(), Some("wss://gateway:443"));
        assert_eq!(url("[::1]:18789").as_deref(), Some("wss://[::1]:18789"));
        for text in [
            "",
            "gateway",
            "gateway:",
            ":443",
            "::1",
            "https://gateway:443",
            "g:0",
        ] {
            assert_eq!(url(text), None, "{text}");
        }
    }
}
