//! A page with something of everything, on loopback.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::Result;

/// The page.
const PAGE: &str = "<!doctype html><html><head><title>Benchmark</title></head><body><main>\
    <h1>Welcome</h1><p>Hello <b>bold</b> world.</p><button id=\"b1\">Press me</button>\
    <ul><li><a href=\"/a\">One</a></li><li><a href=\"/b\">Two</a></li></ul>\
    <label>Name <input name=\"name\"></label><table><tr><th>K</th><th>V</th></tr>\
    <tr><td>a</td><td>1</td></tr></table></main></body></html>";

/// A running site; it ends with the program.
pub(crate) struct Site {
    port: u16,
}

impl Site {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    // All of a short request is there at once; what it asks for does not matter.
                    if matches!(stream.read(&mut request).await, Ok(0) | Err(_)) {
                        return;
                    }
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\
                         connection: close\r\n\r\n{PAGE}",
                        PAGE.len()
                    );
                    stream.write_all(answer.as_bytes()).await.ok();
                });
            }
        });
        Ok(Self { port })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
}
