//! A server that takes TLS off a connection and forwards what is in it, as a gateway with TLS or
//! a proxy before one does, and the certificates that it shows.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, PKCS_ED25519,
    PublicKeyData, SignatureAlgorithm, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::common::DEADLINE;

/// A private key; rcgen's own would bring parsers along that nothing here needs.
struct KeyPair {
    private: ed25519_dalek::SigningKey,
    public: [u8; 32],
}

impl KeyPair {
    fn generate() -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let private = ed25519_dalek::SigningKey::from_bytes(&seed);
        let public = private.verifying_key().to_bytes();
        Self { private, public }
    }

    fn to_der(&self) -> PrivateKeyDer<'static> {
        let der = self.private.to_pkcs8_der().unwrap();
        PrivateKeyDer::try_from(der.as_bytes().to_vec()).unwrap()
    }
}

impl PublicKeyData for KeyPair {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for KeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.private.sign(message).to_vec())
    }
}

/// Parameters of a certificate for these names and addresses.
fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.serial_number = Some(uuid::Uuid::new_v4().into_bytes().to_vec().into());
    params
}

/// A certificate and the key to it.
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Certificate {
    /// One that vouches for itself, and says that it is an authority's, as `openssl req -x509`
    /// makes them. It is for a name that no test connects to.
    pub(crate) fn self_signed() -> Self {
        let key = KeyPair::generate();
        let mut params = params(&["openclaw-gateway"]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, key }
    }

    /// SHA-256 over its DER, in lower-case hex.
    pub(crate) fn fingerprint(&self) -> String {
        Sha256::digest(&self.der)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// Its certificate, for a file of roots.
    pub(crate) fn pem(&self) -> String {
        let body = BASE64_STANDARD.encode(self.issuer.der());
        let lines: Vec<&str> = body
            .as_bytes()
            .chunks(64)
            .map(|line| str::from_utf8(line).unwrap())
            .collect();
        let body = lines.join("\n");
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    /// A certificate for these names and addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Certificate {
        self.issue_with(names, |_| ())
    }

    /// A certificate that was valid in the past.
    pub(crate) fn issue_expired(&self, names: &[&str]) -> Certificate {
        self.issue_with(names, |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    fn issue_with(
        &self,
        names: &[&str],
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let mut params = params(names);
        adjust(&mut params);
        let key = KeyPair::generate();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Certificate { der, key }
    }
}

/// A TLS version of the server's choice.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

/// What a client agreed on with the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) protocol: Option<Vec<u8>>,
    pub(crate) server_name: Option<String>,
}

/// What the server saw so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// Handshakes that came to nothing, and why.
    pub(crate) failures: Vec<String>,
    pub(crate) sessions: Vec<Session>,
    /// Bytes that came out of TLS.
    pub(crate) decrypted: usize,
}

/// The server; it runs as long as the test.
pub(crate) struct TlsServer {
    address: SocketAddr,
    log: watch::Receiver<Log>,
}

impl TlsServer {
    /// Serves `certificate` on `127.0.0.1`, in front of `target`.
    pub(crate) async fn start(certificate: &Certificate, version: Version, target: u16) -> Self {
        let config = config(certificate, &certificate.key, version);
        Self::bind([127, 0, 0, 1].into(), config, target)
            .await
            .unwrap()
    }

    /// Serves on another address; `None` where the machine does not have it.
    pub(crate) async fn start_on(
        address: IpAddr,
        certificate: &Certificate,
        target: u16,
    ) -> Option<Self> {
        Self::bind(
            address,
            config(certificate, &certificate.key, Version::Tls13),
            target,
        )
        .await
    }

    /// Shows a certificate without having the key to it.
    pub(crate) async fn start_impostor(
        certificate: &Certificate,
        version: Version,
        target: u16,
    ) -> Self {
        let config = config(certificate, &KeyPair::generate(), version);
        Self::bind([127, 0, 0, 1].into(), config, target)
            .await
            .unwrap()
    }

    async fn bind(address: IpAddr, config: ServerConfig, target: u16) -> Option<Self> {
        let listener = TcpListener::bind((address, 0)).await.ok()?;
        let address = listener.local_addr().unwrap();
        let (sender, log) = watch::channel(Log::default());
        tokio::spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            sender,
            target,
        ));
        Some(Self { address, log })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it saw so far.
    pub(crate) fn log(&self) -> Log {
        self.log.borrow().clone()
    }

    /// Waits until `count` handshakes have failed.
    pub(crate) async fn failures(&self, count: usize) -> Log {
        let mut log = self.log.clone();
        let enough = log.wait_for(|log| log.failures.len() >= count);
        timeout(DEADLINE, enough)
            .await
            .expect("it is tried again")
            .unwrap()
            .clone()
    }
}

fn config(certificate: &Certificate, key: &KeyPair, version: Version) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let key = provider
        .key_provider
        .load_private_key(key.to_der())
        .unwrap();
    let shown = CertifiedKey::new(vec![certificate.der.clone()], key);
    let version = match version {
        Version::Tls12 => &TLS12,
        Version::Tls13 => &TLS13,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, log: watch::Sender<Log>, target: u16) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, log) = (tls.clone(), log.clone());
        tokio::spawn(async move {
            match tls.accept(stream).await {
                Ok(stream) => forward(stream, &log, target).await,
                Err(error) => log.send_modify(|log| log.failures.push(error.to_string())),
            }
        });
    }
}

async fn forward(client: TlsStream<TcpStream>, log: &watch::Sender<Log>, target: u16) {
    let (_, session) = client.get_ref();
    let session = Session {
        protocol: session.alpn_protocol().map(<[u8]>::to_vec),
        server_name: session.server_name().map(str::to_owned),
    };
    log.send_modify(|log| log.sessions.push(session));
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let target = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
    let (mut from_target, mut to_target) = target.into_split();
    let upwards = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            log.send_modify(|log| log.decrypted += read);
            if to_target.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    // Whichever side ends, the other is of no use any more.
    tokio::select! {
        () = upwards => (),
        _ = tokio::io::copy(&mut from_target, &mut to_client) => (),
    }
}
