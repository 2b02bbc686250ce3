//! What a connection is waiting for, and until when it may.
//!
//! hyper's own head timeout also ends idle connections, so the phases are told apart here: by the
//! bytes that pass through [`Watched`], and by when the service starts and ends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

const NEVER: u64 = u64::MAX;

/// The deadlines of one connection. Atomics, because its parts share them; they all run in the
/// connection's one task.
pub(super) struct Progress {
    start: Instant,
    head_timeout: Duration,
    write_timeout: Duration,
    phase: AtomicU8,
    /// Bytes came while the service worked on a request without a body: the next head has begun.
    ahead: AtomicBool,
    /// The client has sent something.
    any_came: AtomicBool,
    /// Milliseconds after `start`.
    read_due: AtomicU64,
    write_due: AtomicU64,
}

const HEAD: u8 = 0;
const WORK: u8 = 1;
/// Work on a request with a body. Bytes that come are taken for the body's: a client that sends its
/// next head right behind has the idle time for it.
const BODY: u8 = 2;
const IDLE: u8 = 3;

impl Progress {
    /// Starts waiting for the first head.
    pub(super) fn new(head_timeout: Duration, write_timeout: Duration) -> Self {
        let progress = Self {
            start: Instant::now(),
            head_timeout,
            write_timeout,
            phase: AtomicU8::new(HEAD),
            ahead: AtomicBool::new(false),
            any_came: AtomicBool::new(false),
            read_due: AtomicU64::new(NEVER),
            write_due: AtomicU64::new(NEVER),
        };
        progress.head_begins();
        progress
    }

    /// A head is complete: the service works, for as long as it likes.
    pub(super) fn work_begins(&self, has_body: bool) {
        self.phase
            .store(if has_body { BODY } else { WORK }, Relaxed);
        self.ahead.store(false, Relaxed);
        self.read_due.store(NEVER, Relaxed);
    }

    /// The service has answered: the next head may take `idle_timeout` to begin.
    pub(super) fn work_ends(&self, idle_timeout: Duration) {
        if self.ahead.load(Relaxed) {
            self.head_begins();
        } else {
            self.phase.store(IDLE, Relaxed);
            self.read_due.store(self.after(idle_timeout), Relaxed);
        }
    }

    /// Waits no longer than `timeout` from now for a head that has not begun.
    pub(super) fn hurry(&self, timeout: Duration) {
        let waits = matches!(self.phase.load(Relaxed), IDLE) || !self.any_came.load(Relaxed);
        if waits {
            self.read_due.fetch_min(self.after(timeout), Relaxed);
        }
    }

    /// When the connection is to be closed, if it is waiting for its client.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self
            .read_due
            .load(Relaxed)
            .min(self.write_due.load(Relaxed))
        {
            NEVER => None,
            due => Some(self.start + Duration::from_millis(due)),
        }
    }

    fn head_begins(&self) {
        self.phase.store(HEAD, Relaxed);
        self.read_due.store(self.after(self.head_timeout), Relaxed);
    }

    fn bytes_came(&self) {
        self.any_came.store(true, Relaxed);
        match self.phase.load(Relaxed) {
            IDLE => self.head_begins(),
            WORK => self.ahead.store(true, Relaxed),
            _ => {}
        }
    }

    /// The first stall starts the time; only a complete flush ends it, so a client that reads a
    /// byte now and then gains nothing.
    fn write_stalls(&self) {
        if self.write_due.load(Relaxed) == NEVER {
            self.write_due
                .store(self.after(self.write_timeout), Relaxed);
        }
    }

    fn flushed(&self) {
        self.write_due.store(NEVER, Relaxed);
    }

    fn after(&self, timeout: Duration) -> u64 {
        let due = self.start.elapsed().saturating_add(timeout);
        u64::try_from(due.as_millis()).unwrap_or(NEVER)
    }
}

/// A connection that tells its progress.
pub(super) struct Watched<T> {
    pub(super) io: T,
    pub(super) progress: Arc<Progress>,
}

impl<T> Watched<T> {
    fn written<R>(&self, result: Poll<R>) -> Poll<R> {
        if result.is_pending() {
            self.progress.write_stalls();
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.progress.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        if result.is_ready() {
            self.progress.flushed();
        }
        self.written(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(cx);
        self.written(result)
    }
}
