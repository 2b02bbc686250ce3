//! A fresh connection that is read and written before the runtime has heard of it.

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Readable;

/// A connection that was just accepted.
///
/// tokio takes a socket for not ready until epoll has told otherwise, which is a turn of the event
/// loop later, although a request is mostly there when its connection is accepted. So the first read
/// and the first write ask the kernel at once. Only those: what a client sends without end must come
/// through tokio, which counts it against the task's budget.
///
/// One that may outlive this process leaves its first request in the kernel until that is answered: whoever
/// takes the connection over finds the request there. The `H`, which holds it where it does, is dropped as
/// soon as the answer has to wait.
#[derive(Debug)]
pub struct Eager<T: AsFd, H = ()> {
    io: T,
    has_read: bool,
    has_written: bool,
    unanswered: Option<Unanswered<H>>,
}

/// A first request that is still in the kernel.
#[derive(Debug)]
struct Unanswered<H> {
    /// How much of it has been read.
    seen: usize,
    /// hyper has looked for its client's end.
    has_waited: bool,
    held: Option<H>,
}

impl<T: AsFd> Eager<T> {
    /// Wraps a non-blocking socket that nobody has read from.
    pub const fn new(io: T) -> Self {
        Self {
            io,
            has_read: false,
            has_written: false,
            unanswered: None,
        }
    }
}

impl<T: AsFd, H> Eager<T, H> {
    /// The same for a TCP connection that others may take over, and that `held`, where there is one, holds.
    pub fn held(io: T, held: Option<H>) -> Self {
        Self {
            io,
            has_read: false,
            has_written: false,
            unanswered: Some(Unanswered {
                seen: 0,
                has_waited: false,
                held,
            }),
        }
    }

    /// What the first write gives, made by `write`; `None` for later ones, and where tokio has to wait.
    fn first_write(
        &mut self,
        write: impl FnOnce(&T) -> rustix::io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        if std::mem::replace(&mut self.has_written, true) {
            return None;
        }
        let written = at_once(write(&self.io));
        self.let_go();
        written
    }

    fn first_read(&mut self, buf: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        let mut flags = RecvFlags::DONTWAIT;
        flags.set(RecvFlags::PEEK, self.unanswered.is_some());
        let received = rustix::net::recv(self.io.as_fd(), buf.initialize_unfilled(), flags);
        let received = at_once(received.map(|(_, length)| length));
        match (&received, &mut self.unanswered) {
            (Some(Ok(length)), Some(unanswered)) if *length > 0 => unanswered.seen = *length,
            _ => self.let_go(),
        }
        received.map(|received| received.map(|length| buf.advance(length)))
    }

    /// Takes the first request out of the kernel, and then lets go of what holds the connection: so
    /// that its end is one without unread bytes, which clients see as a reset.
    fn let_go(&mut self) {
        let Some(unanswered) = self.unanswered.take() else {
            return;
        };
        let mut left = unanswered.seen;
        while left > 0 {
            let mut nowhere = [0; 2048];
            let length = left.min(nowhere.len());
            let (part, _) = nowhere.split_at_mut(length);
            // The bytes of a TCP connection are not even copied (tcp(7)).
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            match rustix::net::recv(self.io.as_fd(), part, flags) {
                Ok((_, taken)) if taken > 0 => left = left.saturating_sub(taken),
                Err(Errno::INTR) => {}
                _ => break,
            }
        }
    }
}

impl<T: AsFd + Readable, H> Eager<T, H> {
    /// Ready once there is more to read than the first request, which it then takes out of the kernel. While
    /// that is being answered hyper looks for more: the client's end, or the rest of the request.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(unanswered) = &mut self.unanswered else {
            return Poll::Ready(Ok(()));
        };
        let (io, seen) = (&self.io, unanswered.seen);
        if !std::mem::replace(&mut unanswered.has_waited, true) {
            // Mostly the answer follows in this very turn of the event loop. What the runtime has been told of
            // by then, which another thread of it hears of at once, is looked at in the next turn.
            if io.poll_readable(cx, || true)?.is_ready() {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        unanswered.held = None;
        ready!(io.poll_readable(cx, || has_more(io, seen)))?;
        self.let_go();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsFd, H> Drop for Eager<T, H> {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Whether more than `seen` bytes are unread, or the client has ended. What cannot be told is for the read to find.
fn has_more(connection: &impl AsFd, seen: usize) -> bool {
    let mut end = [PollFd::new(connection, PollFlags::RDHUP)];
    let now = Timespec::default();
    let has_ended = poll(&mut end, Some(&now)) != Ok(0);
    let unread = || ioctl_fionread(connection).unwrap_or(u64::MAX);
    has_ended || usize::try_from(unread()).is_ok_and(|unread| unread > seen)
}

/// `None` for what is to be tried again when tokio says so.
fn at_once(result: rustix::io::Result<usize>) -> Option<io::Result<usize>> {
    match result {
        Err(Errno::AGAIN | Errno::INTR) => None,
        other => Some(other.map_err(io::Error::from)),
    }
}

impl<T, H> AsyncRead for Eager<T, H>
where
    T: AsyncRead + Readable + AsFd + Unpin,
    H: Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.has_read, true) {
            ready!(self.poll_more(cx))?;
        } else if let Some(read) = self.first_read(buf) {
            return Poll::Ready(read);
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T, H> AsyncWrite for Eager<T, H>
where
    T: AsyncWrite + AsFd + Unpin,
    H: Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let send = |io: &T| {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            rustix::net::send(io.as_fd(), bytes, flags)
        };
        match self.first_write(send) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(&mut self.io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.first_write(|io| rustix::io::writev(io.as_fd(), slices)) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(&mut self.io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
