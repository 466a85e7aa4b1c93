//! The site that the calls were recorded against, on loopback.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Larger than what a node sends.
const BIG_BYTES: usize = 11 * 1024 * 1024;

/// A running site.
pub(crate) struct Site {
    /// `127.0.0.1:PORT`.
    pub(crate) authority: String,
    server: JoinHandle<()>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // A browser may go away at any time.
                    answer(stream).await.ok();
                });
            }
        });
        Self { authority, server }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let mut header = String::new();
    while stream.read_line(&mut header).await? > 2 {
        header.clear();
    }
    let target = request.split(' ').nth(1).unwrap_or("/");
    let path = target.split('?').next().unwrap_or("/");
    let (status, kind, body) = match content(path) {
        Some((kind, body)) => ("200 OK", kind, body),
        None => ("404 Not Found", "text/html", b"not found".to_vec()),
    };
    let moved = path.strip_prefix("/to/").map(|to| format!("http://{to}/"));
    let (status, location) = match moved {
        Some(to) => ("302 Found", format!("location: {to}\r\n")),
        None => (status, String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{location}content-length: {}\r\nconnection: \
         close\r\n\r\n",
        body.len()
    );
    let stream = stream.get_mut();
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

fn content(path: &str) -> Option<(&'static str, Vec<u8>)> {
    if path == "/dl/big.bin" {
        return Some(("application/octet-stream", vec![0; BIG_BYTES]));
    }
    let kind = match path.rsplit('.').next()? {
        "html" => "text/html",
        "json" => "application/json",
        "png" => "image/png",
        _ => "application/octet-stream",
    };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser/site");
    let file = folder.join(path.trim_start_matches('/'));
    Some((kind, std::fs::read(file).ok()?))
}
