//! What is asked of a gateway outside of a connection: its certificate, and the payload of a join
//! URL.

use std::time::Duration;

use awc::http::header::CONTENT_TYPE;
use node_config::Reach;
use node_config::endpoint::PlannedEndpoint;
use protocol::setup_code::{PAYLOAD_LIMIT_BYTES, SetupCode};
use secrecy::ExposeSecret as _;

use crate::socket;
use crate::tls::Demand;

/// How long fetching a join payload may take (wire protocol §7.6).
const JOIN_DEADLINE: Duration = Duration::from_secs(15);

/// Why a server's certificate is not seen. The text names the cause.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(String);

/// Why a join URL leads to no setup code; upstream's words where it has any (wire protocol §7.6).
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The gateway knows no such code, or no longer.
    #[error("Gateway join code was not found or has expired.")]
    NotFound,
    /// What came is no setup code.
    #[error("Gateway returned an invalid pairing payload.")]
    Invalid,
    /// Nothing came.
    #[error("Could not fetch the Gateway join payload securely. {0}")]
    Unreachable(String),
}

/// SHA-256 over the certificate that the server at `endpoint` shows, in hex. It is refused once it
/// has, so nothing is ever sent to it.
///
/// # Errors
/// [`CertificateError`], when there is no server, or none with TLS.
pub async fn certificate_of(
    endpoint: &PlannedEndpoint,
    reach: &Reach,
) -> Result<String, CertificateError> {
    socket::certificate_of(endpoint, reach)
        .await
        .map_err(|error| CertificateError(error.to_string()))
}

/// Redeems a join URL, which can be done once: `endpoint` is its host with its path.
///
/// # Errors
/// [`JoinError`].
pub async fn join(endpoint: &PlannedEndpoint, reach: &Reach) -> Result<SetupCode, JoinError> {
    let fetch = fetch(endpoint, reach);
    let payload = tokio::time::timeout(JOIN_DEADLINE, fetch)
        .await
        .map_err(|_| JoinError::Unreachable("There was no answer in time.".to_owned()))??;
    SetupCode::from_payload(&payload).map_err(|_| JoinError::Invalid)
}

async fn fetch(endpoint: &PlannedEndpoint, reach: &Reach) -> Result<Vec<u8>, JoinError> {
    let unreachable = |error: &dyn std::fmt::Display| JoinError::Unreachable(error.to_string());
    let client = socket::client(endpoint, reach, Demand::Proof)
        .await
        .map_err(|error| unreachable(&error))?;
    // `ws` and `wss` become `http` and `https`.
    let url = endpoint.url().replacen("ws", "http", 1);
    let mut request = client.get(url).timeout(JOIN_DEADLINE);
    for (name, value) in socket::edge_headers(reach) {
        request = request.insert_header((name, value.expose_secret()));
    }
    let mut response = request.send().await.map_err(|error| unreachable(&error))?;
    let is_json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !response.status().is_success() || !is_json {
        return Err(JoinError::NotFound);
    }
    let body = response.body().limit(PAYLOAD_LIMIT_BYTES).await;
    Ok(body.map_err(|_| JoinError::Invalid)?.to_vec())
}
