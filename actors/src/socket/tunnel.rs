//! The way through a proxy: HTTP CONNECT (RFC 9110 §9.3.6).

use std::io;

use actix_rt::net::TcpStream;
use actix_tls::connect::ConnectError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node_config::Proxy;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::open_tcp;

/// The longest head of an answer that is read, in bytes.
const HEAD_LIMIT_BYTES: usize = 8 * 1024;

/// Opens a tunnel to `host` and `port`. The caller limits how long that may take.
///
/// # Errors
/// What the proxy said, or that it is not reached.
pub(super) async fn open(proxy: &Proxy, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let mut stream = open_tcp(&proxy.host, proxy.port).await?;
    let authority = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(credentials) = &proxy.credentials {
        let credentials = STANDARD.encode(credentials.expose_secret());
        request.push_str(&format!("Proxy-Authorization: Basic {credentials}\r\n"));
    }
    request.push_str("\r\n");
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(|error| failed(format!("the proxy takes nothing: {error}")))?;
    let status = status(&mut stream).await?;
    if (200..300).contains(&status) {
        return Ok(stream);
    }
    let hint = match status {
        407 => "; give its user and password in HTTPS_PROXY",
        _ => "; if the gateway is reached without it, name its host in NO_PROXY",
    };
    Err(failed(format!(
        "the proxy {}:{} does not connect to {authority} (HTTP {status}){hint}",
        proxy.host, proxy.port
    )))
}

/// Reads the head of the answer byte by byte: what follows it belongs to the gateway.
async fn status(stream: &mut TcpStream) -> Result<u16, ConnectError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await;
        head.push(byte.map_err(|_| failed("the proxy ended the connection instead of answering"))?);
        if head.len() > HEAD_LIMIT_BYTES {
            return Err(failed("the proxy's answer is too long"));
        }
    }
    let text = String::from_utf8_lossy(&head);
    let mut words = text.split_ascii_whitespace();
    match (
        words.next(),
        words.next().and_then(|code| code.parse().ok()),
    ) {
        (Some(version), Some(status)) if version.starts_with("HTTP/1.") => Ok(status),
        _ => Err(failed(
            "the proxy does not answer in HTTP; check HTTPS_PROXY",
        )),
    }
}

fn failed(reason: impl Into<String>) -> ConnectError {
    ConnectError::Io(io::Error::other(reason.into()))
}
