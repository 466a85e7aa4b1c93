//! TLS to the gateway: what a `wss` connection trusts, and what an operator reads when it does not.
//!
//! Whether a server is the right one is decided within the handshake: a wrong one never sees as
//! much as the HTTP upgrade (wire protocol §1.5). All of this is made when a `wss` endpoint is
//! dialled and not before, so a plain node pays nothing for it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use awc::error::{ConnectError, SendRequestError, WsClientError};
use awc::http::Uri;
use node_config::endpoint::PlannedEndpoint;
use node_config::{Fingerprint, TlsSettings};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tracing::debug;

/// The one protocol that a WebSocket upgrade can be asked for in (wire protocol §1.2).
const ALPN: &[u8] = b"http/1.1";
/// Most names of a certificate that a message lists.
const NAMES_SHOWN: usize = 4;

/// The machine's roots, once a `wss` endpoint without a pin wanted them. They are read again after
/// a certificate of an unknown issuer, so that adding the issuer is enough.
static ROOTS: Mutex<Option<Arc<RootCertStore>>> = Mutex::const_new(None);

/// Why there is no TLS connection. Each of these may heal by itself and is retried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The host cannot stand in a certificate, and could not be told to a server.
    #[error("\"{0}\" is no name of a tls server; use a host name or an IP address")]
    Name(String),
    /// There is nothing to check a certificate against; why, as the system tells it.
    #[error(
        "no root certificates are found to check the gateway's certificate with{0}; install the system's (ca-certificates), name a PEM file in SSL_CERT_FILE, or pin the gateway's certificate with --tls-fingerprint"
    )]
    NoRoots(String),
    /// The file that the settings name holds no roots.
    #[error(
        "no root certificate can be read from {path} (tls.caFile of openclaw-node.json5){reason}"
    )]
    CaFile {
        /// The file.
        path: String,
        /// Why, as the system tells it.
        reason: String,
    },
    /// Reading the roots was cut short, or rustls does not take what we tell it.
    #[error("tls cannot be set up: {0}")]
    Setup(String),
    /// The server is not the one to talk to.
    #[error(transparent)]
    Distrusted(#[from] Distrust),
    /// The server showed no certificate (wire protocol §1.5).
    #[error("gateway tls fingerprint unavailable: the server shows no certificate")]
    NoCertificate,
    /// What answers is something else than TLS.
    #[error(
        "gateway tls handshake failed: the server does not speak tls; check the port, or use --no-tls if this gateway serves plain ws"
    )]
    NotTls,
    /// The server ended the connection instead of answering.
    #[error(
        "gateway tls handshake failed: the server ended the connection; check that it serves tls on this port"
    )]
    HungUp,
    /// The two sides did not come to terms.
    #[error("gateway tls handshake failed: {0}")]
    Handshake(rustls::Error),
}

/// Why a certificate is refused. The fingerprints are there to be compared with what the gateway's
/// own machine shows; the server that showed them may be anybody's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    /// It is not the pinned one (wire protocol §1.5).
    #[error(
        "gateway tls fingerprint mismatch: the server shows sha256:{presented}, pinned is {pinned}; only if the gateway's own machine shows the new one, pin it with --tls-fingerprint"
    )]
    Mismatch {
        /// SHA-256 over the leaf that was shown, in hex.
        presented: String,
        /// What was wanted.
        pinned: String,
    },
    /// It was only to be shown.
    #[error("the server shows sha256:{presented}")]
    Shown {
        /// SHA-256 over the leaf that was shown, in hex.
        presented: String,
    },
    /// This machine's roots do not vouch for it.
    #[error(
        "gateway tls certificate not trusted: {reason}; pin it with --tls-fingerprint sha256:{presented} after comparing that with what the gateway's own machine shows{elsewise}"
    )]
    Untrusted {
        /// What is wrong with it.
        reason: String,
        /// What else would mend it.
        elsewise: &'static str,
        /// SHA-256 over the leaf that was shown, in hex.
        presented: String,
    },
}

impl From<Distrust> for rustls::Error {
    fn from(distrust: Distrust) -> Self {
        CertificateError::Other(OtherError(Arc::new(distrust))).into()
    }
}

/// What is wanted of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// That it proves to be the gateway.
    Proof,
    /// That it shows its certificate, and no more: it is refused in any case.
    Certificate,
}

/// What to connect with: TLS 1.2 and 1.3, no resumption (a resumed session would not show its
/// certificate again), and a verifier for exactly this endpoint.
///
/// # Errors
/// [`TlsError::Name`], [`TlsError::NoRoots`], [`TlsError::CaFile`], [`TlsError::Setup`].
pub(crate) async fn client_config(
    endpoint: &PlannedEndpoint,
    settings: &TlsSettings,
    demand: Demand,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = GatewayVerifier::new(endpoint, settings, demand, &provider).await?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The URL for the TLS connector, which takes the server's name from it and gives up on an IPv6
/// literal, for its brackets. In its place stands another address: no address is told to a server
/// (RFC 6066 §3), and [`GatewayVerifier`] knows by itself which one the certificate must name.
pub(crate) fn handshake_uri(uri: &Uri) -> Uri {
    if uri.host().is_some_and(|host| host.starts_with('[')) {
        Uri::from_static("wss://0.0.0.0")
    } else {
        uri.clone()
    }
}

/// What went wrong with TLS, if it was TLS that went wrong. Only for `wss` endpoints.
pub(crate) fn handshake_failure(error: &WsClientError) -> Option<TlsError> {
    let WsClientError::SendRequest(SendRequestError::Connect(ConnectError::Io(error))) = error
    else {
        return None;
    };
    // TCP errors come with words of our own around them, so a bare one is from after that.
    let is_bare = error.raw_os_error().is_some();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => return Some(TlsError::HungUp),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe if is_bare => {
            return Some(TlsError::HungUp);
        }
        _ => {}
    }
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            match other.downcast_ref::<Distrust>() {
                Some(distrust) => TlsError::Distrusted(distrust.clone()),
                None => TlsError::Handshake(error.clone()),
            }
        }
        rustls::Error::NoCertificatesPresented => TlsError::NoCertificate,
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            TlsError::NotTls
        }
        other => TlsError::Handshake(other.clone()),
    })
}

/// Reads the machine's roots, or `SSL_CERT_FILE` and `SSL_CERT_DIR`, away from the arbiter: it is
/// hundreds of kilobytes on a disk.
async fn roots() -> Result<Arc<RootCertStore>, TlsError> {
    let mut cached = ROOTS.lock().await;
    if let Some(roots) = &*cached {
        return Ok(Arc::clone(roots));
    }
    let read = tokio::task::spawn_blocking(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, unusable) = roots.add_parsable_certificates(found.certs);
        (roots, usable, unusable, found.errors)
    });
    let (roots, usable, unusable, errors) = read
        .await
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    debug!(usable, unusable, ?errors, "root certificates read");
    if roots.is_empty() {
        let reason = errors.first().map(|error| format!(" ({error})"));
        return Err(TlsError::NoRoots(reason.unwrap_or_default()));
    }
    let roots = Arc::new(roots);
    *cached = Some(Arc::clone(&roots));
    Ok(roots)
}

/// Reads the roots of the settings' own file, each time, so that a replaced file counts at once.
async fn roots_of(file: PathBuf) -> Result<Arc<RootCertStore>, TlsError> {
    let path = file.display().to_string();
    let read = tokio::task::spawn_blocking(move || {
        let found = rustls_native_certs::load_certs_from_paths(Some(&file), None);
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        (roots, found.errors)
    });
    let (roots, errors) = read
        .await
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    if roots.is_empty() {
        let reason = errors.first().map(|error| format!(": {error}"));
        return Err(TlsError::CaFile {
            path,
            reason: reason.unwrap_or_default(),
        });
    }
    Ok(Arc::new(roots))
}

/// Makes the next attempt read the roots again.
fn forget_roots() {
    // Locked means that somebody reads them just now.
    if let Ok(mut cached) = ROOTS.try_lock() {
        *cached = None;
    }
}

/// Decides about the gateway's certificate.
#[derive(Debug)]
struct GatewayVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Trust {
    /// One of these certificates, whatever it says about itself (wire protocol §1.5).
    Pinned(Vec<Fingerprint>),
    /// None: the certificate is only looked at.
    Nobody,
    /// A certificate for this name, with a chain to one of the machine's roots.
    Chain {
        name: ServerName<'static>,
        verifier: Arc<WebPkiServerVerifier>,
    },
}

impl GatewayVerifier {
    async fn new(
        endpoint: &PlannedEndpoint,
        settings: &TlsSettings,
        demand: Demand,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let host = endpoint.host();
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
        let pins: Vec<Fingerprint> = endpoint
            .fingerprint()
            .into_iter()
            .chain(settings.pins.iter().copied())
            .collect();
        let trust = match demand {
            Demand::Certificate => Trust::Nobody,
            Demand::Proof if !pins.is_empty() => Trust::Pinned(pins),
            Demand::Proof => {
                let roots = match settings.ca_file.clone() {
                    Some(file) => roots_of(file).await?,
                    None => roots().await?,
                };
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
                        .build()
                        .map_err(|error| TlsError::Setup(error.to_string()))?;
                Trust::Chain { name, verifier }
            }
        };
        Ok(Self {
            trust,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for GatewayVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trust {
            Trust::Nobody => Err(Distrust::Shown {
                presented: hex(&Sha256::digest(end_entity)),
            }
            .into()),
            Trust::Pinned(pins) => {
                let presented = Sha256::digest(end_entity);
                if pins
                    .iter()
                    .any(|pin| presented.as_slice() == pin.as_bytes())
                {
                    return Ok(ServerCertVerified::assertion());
                }
                let pinned: Vec<String> = pins.iter().map(|pin| format!("sha256:{pin}")).collect();
                Err(Distrust::Mismatch {
                    presented: hex(&presented),
                    pinned: pinned.join(" or "),
                }
                .into())
            }
            Trust::Chain { name, verifier } => verifier
                .verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
                .map_err(|error| match error {
                    rustls::Error::InvalidCertificate(cause) => {
                        untrusted(&cause, name, end_entity).into()
                    }
                    other => other,
                }),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Says what is wrong with a certificate. The same certificate gives the same words each time, so
/// that retrying is not a new complaint.
fn untrusted(
    cause: &CertificateError,
    name: &ServerName<'_>,
    end_entity: &CertificateDer<'_>,
) -> Distrust {
    const ADD_ISSUER: &str = ", or add its issuer to this machine's roots (or to SSL_CERT_FILE, or name it in tls.caFile)";
    const CHECK_CLOCKS: &str = ", or renew it; are the clocks of both machines right?";
    const CHECK_HOST: &str = ", or connect to a name that it is for with --host";
    let (reason, elsewise) = match cause {
        CertificateError::UnknownIssuer => {
            forget_roots();
            (
                "its issuer is unknown to this machine".to_owned(),
                ADD_ISSUER,
            )
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            (format!("it expired at {}", date(*not_after)), CHECK_CLOCKS)
        }
        CertificateError::NotValidYetContext { not_before, .. } => (
            format!("it is not valid before {}", date(*not_before)),
            CHECK_CLOCKS,
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented
                .iter()
                .take(NAMES_SHOWN)
                .map(String::as_str)
                .collect();
            let shown = match names.as_slice() {
                [] => "no name at all".to_owned(),
                names => names.join(", "),
            };
            (
                format!("it is for {shown}, not for {}", name.to_str()),
                CHECK_HOST,
            )
        }
        // What is left of a self-signed certificate that says that it is an authority's, as the
        // openssl program makes them.
        CertificateError::Other(OtherError(other)) => {
            (format!("it is self-signed or unusual ({other})"), "")
        }
        other => (other.to_string(), ""),
    };
    Distrust::Untrusted {
        reason,
        elsewise,
        presented: hex(&Sha256::digest(end_entity)),
    }
}

fn date(time: UnixTime) -> String {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(time.as_secs()))
        .map_or_else(
            || "an impossible time".to_owned(),
            |time| humantime::format_rfc3339_seconds(time).to_string(),
        )
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
