//! One connection of the load: HTTP/1.1 written by hand, so that it costs next to nothing.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, bail, ensure};
use tokio::time::Instant;

/// Room for any answer that is asked for here.
const ANSWER_BYTES: usize = 8 * 1024;

/// A connection with one request on it at a time; others wait for their turn.
pub(super) struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
    /// The request that is on the wire and those that wait, by when they were due.
    due: VecDeque<Instant>,
    answer: Box<[u8]>,
    filled: usize,
}

impl Connection {
    /// Connects from the calling thread's namespace.
    pub(super) fn open(address: SocketAddr, request: Vec<u8>) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address)
            .with_context(|| format!("failed to connect to the server at {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            request,
            due: VecDeque::new(),
            answer: vec![0; ANSWER_BYTES].into(),
            filled: 0,
        })
    }

    /// Asks, or waits for its turn to ask.
    pub(super) fn ask(&mut self, due: Instant) -> anyhow::Result<()> {
        self.due.push_back(due);
        if self.due.len() == 1 {
            self.send()?;
        }
        Ok(())
    }

    /// Reads what has come. When that completes an answer, sends what waits, and says when the request
    /// of the answer was due.
    pub(super) fn advance(&mut self) -> anyhow::Result<Option<Instant>> {
        if self.due.is_empty() {
            return Ok(None);
        }
        let space = self.answer.get_mut(self.filled..).unwrap_or_default();
        ensure!(
            !space.is_empty(),
            "an answer is longer than {ANSWER_BYTES} bytes"
        );
        match self.socket.read(space) {
            Ok(0) => bail!("the server closed the connection before its answer"),
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("failed to read an answer"),
        }
        let filled = self.answer.get(..self.filled).unwrap_or_default();
        if length(filled)?.is_none_or(|length| self.filled < length) {
            return Ok(None);
        }
        self.filled = 0;
        let due = self.due.pop_front();
        if !self.due.is_empty() {
            self.send()?;
        }
        Ok(due)
    }

    /// A request is smaller than any socket buffer: it is taken whole, or the server does not read.
    fn send(&mut self) -> anyhow::Result<()> {
        let sent = self.socket.write(&self.request);
        let sent = sent.context("failed to send a request")?;
        ensure!(sent == self.request.len(), "a request was taken in part");
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The length of head and body, once the head is there.
fn length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(answer.get(..head).unwrap_or_default())?;
    ensure!(text.starts_with("HTTP/1.1 200 "), "an answer began {text}");
    let mut lines = text.lines();
    let body = lines.find_map(|line| line.strip_prefix("content-length: "));
    let body: usize = body.context("an answer has no length")?.parse()?;
    Ok(Some(head + 4 + body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_length_once_its_head_is_there_and_is_a_200() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap(), None);
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab";
        assert_eq!(length(whole).unwrap(), Some(whole.len()));
        assert!(length(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
