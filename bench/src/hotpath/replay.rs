//! A connection whose client is always there, and costs next to nothing.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use shared::serve::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Gives the same request as often as it is asked for, and takes every answer.
pub(super) struct Replay {
    request: Bytes,
    /// Requests that have not been read whole.
    left: usize,
    /// Bytes of the next one that have been read.
    read: usize,
    written: Written,
    /// Tells that the connection has ended.
    #[expect(dead_code, reason = "it tells when it is dropped")]
    end: Option<DropGuard>,
}

/// What was written. A cheap clone.
#[derive(Clone, Default)]
pub(super) struct Written(Arc<(AtomicUsize, AtomicBool)>);

impl Written {
    /// Bytes of all answers; `None` when one was no 200.
    pub(super) fn bytes(&self) -> Option<usize> {
        let (bytes, refused) = &*self.0;
        (!refused.load(Ordering::Relaxed)).then(|| bytes.load(Ordering::Relaxed))
    }
}

impl Replay {
    /// `count` times this request, one after the other.
    pub(super) fn new(request: Bytes, count: usize) -> (Self, Written) {
        let written = Written::default();
        let replay = Self {
            request,
            left: count,
            read: 0,
            written: written.clone(),
            end: None,
        };
        (replay, written)
    }
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left > 0 {
            let rest = self.request.get(self.read..).unwrap_or_default();
            let fits = rest.len().min(buffer.remaining());
            buffer.put_slice(rest.get(..fits).unwrap_or_default());
            self.read += fits;
            if self.read == self.request.len() {
                (self.read, self.left) = (0, self.left - 1);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Two answers may come in one write: counting them would cost as much as some of the path.
        let (written, refused) = &*self.written.0;
        written.fetch_add(bytes.len(), Ordering::Relaxed);
        if !bytes.starts_with(b"HTTP/1.1 200 ") {
            refused.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A listener with one connection, whose end cancels `shutdown`.
pub(super) struct Once(Option<Replay>);

impl Once {
    /// Takes the connection that it will give.
    pub(super) fn new(replay: Replay, shutdown: CancellationToken) -> Self {
        let end = Some(shutdown.drop_guard());
        Self(Some(Replay { end, ..replay }))
    }
}

impl Accept for Once {
    type Io = Replay;

    async fn accept(&mut self) -> io::Result<Replay> {
        match self.0.take() {
            Some(replay) => Ok(replay),
            None => pending().await,
        }
    }
}
