//! Where connections come from.

use std::io;
use std::task::{Context, Poll, ready};

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Accepts connections.
pub trait Accept: Send {
    /// A connection, as [`Eager`](super::Eager) where its first request is to be answered at once.
    /// Non-blocking, and closing it must not block: no `SO_LINGER`, which an
    /// accepted socket takes over from its listener.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for a connection.
    ///
    /// # Errors
    /// Whatever the system says. The caller counts it, rests, and calls again.
    ///
    /// # Cancel safety
    /// Must be safe: no accepted connection is lost, except at shutdown.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

/// Tells when there is something to read, without reading it.
pub trait Readable {
    /// Ready when there may be something to read, or an end, and `is_meant` by that. It is asked each
    /// time the kernel has told of something.
    ///
    /// # Errors
    /// When the runtime is about to end.
    fn poll_readable(
        &self,
        cx: &mut Context<'_>,
        is_meant: impl Fn() -> bool,
    ) -> Poll<io::Result<()>>;
}

macro_rules! readable {
    ($($stream:ty),*) => {$(
        impl Readable for $stream {
            fn poll_readable(
                &self,
                cx: &mut Context<'_>,
                is_meant: impl Fn() -> bool,
            ) -> Poll<io::Result<()>> {
                loop {
                    ready!(self.poll_read_ready(cx))?;
                    // tokio forgets with this what it was told before, and nothing that comes meanwhile.
                    let told = self.try_io(Interest::READABLE, || {
                        is_meant().then_some(()).ok_or(io::ErrorKind::WouldBlock.into())
                    });
                    if told.is_ok() {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    )*};
}

readable!(TcpStream, UnixStream);

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        stream.set_nodelay(true)?;
        set_socket_linger(&stream, None)?;
        Ok(stream)
    }
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<UnixStream> {
        let (stream, _) = Self::accept(self).await?;
        Ok(stream)
    }
}
