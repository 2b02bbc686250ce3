//! A plain HTTP client that sends exactly what a test says and shows exactly what came back.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// An answer as it came over the wire.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The head, status line included.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json(&self) -> serde_json::Value {
        #[expect(
            clippy::expect_used,
            reason = "a body that is no JSON is the test's failure"
        )]
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

/// Asks for `path` with `token` on a connection of its own.
///
/// # Errors
/// When there is no connection or no whole answer.
pub async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("failed to reach {address}"))?;
    exchange(stream, request(path, token).as_bytes()).await
}

/// Asks for `path` with `token` over a unix socket.
///
/// # Errors
/// When there is no connection or no whole answer.
pub async fn get_unix(socket: &Path, path: &str, token: Option<&str>) -> anyhow::Result<Answer> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("failed to reach {}", socket.display()))?;
    exchange(stream, request(path, token).as_bytes()).await
}

/// Sends `bytes` on a connection of its own and reads until the other side closes.
///
/// # Errors
/// When there is no connection or what came back is no HTTP answer.
pub async fn send(address: SocketAddr, bytes: Vec<u8>) -> anyhow::Result<Answer> {
    exchange(TcpStream::connect(address).await?, &bytes).await
}

/// The head of a request that asks for the connection to be closed.
pub fn request(path: &str, token: Option<&str>) -> String {
    let authorization = token.map(|token| format!("Authorization: {token}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\n{}Connection: close\r\n\r\n",
        authorization.unwrap_or_default()
    )
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
) -> anyhow::Result<Answer> {
    // The other side may answer and close before it has read everything: what it said counts.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer).await;
    if answer.is_empty() {
        ended.context("the connection ended without an answer")?;
    }
    parse(&answer)
}

fn parse(answer: &[u8]) -> anyhow::Result<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("no whole head came back: {text:?}"))?;
    let status = head
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no status line came back: {head:?}"))?;
    Ok(Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}
