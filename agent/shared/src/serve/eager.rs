//! A fresh connection that is read and written before the runtime has heard of it.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that was just accepted.
///
/// tokio takes a socket for not ready until epoll has told otherwise, which is a turn of the event
/// loop later, although a request is mostly there when its connection is accepted. So the first read
/// and the first write ask the kernel at once. Only those: what a client sends without end must come
/// through tokio, which counts it against the task's budget.
#[derive(Debug)]
pub struct Eager<T> {
    io: T,
    has_read: bool,
    has_written: bool,
}

impl<T: AsFd> Eager<T> {
    /// Wraps a non-blocking socket that nobody has read from.
    pub const fn new(io: T) -> Self {
        Self {
            io,
            has_read: false,
            has_written: false,
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
        at_once(write(&self.io))
    }
}

/// `None` for what is to be tried again when tokio says so.
fn at_once(result: rustix::io::Result<usize>) -> Option<io::Result<usize>> {
    match result {
        Err(Errno::AGAIN | Errno::INTR) => None,
        other => Some(other.map_err(io::Error::from)),
    }
}

impl<T: AsyncRead + AsFd + Unpin> AsyncRead for Eager<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_read, true) {
            let received = rustix::net::recv(
                self.io.as_fd(),
                buf.initialize_unfilled(),
                RecvFlags::DONTWAIT,
            );
            if let Some(received) = at_once(received.map(|(_, length)| length)) {
                return Poll::Ready(received.map(|length| buf.advance(length)));
            }
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + AsFd + Unpin> AsyncWrite for Eager<T> {
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream as Client;
    use std::sync::{Arc, Mutex};
    use std::task::Waker;
    use std::time::Duration;

    use tokio::net::UnixStream;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::serve::tests::{counters, respond};
    use crate::serve::{Accept, Connections, Limits, serve};

    fn pair() -> (Client, Eager<UnixStream>) {
        let (client, server) = Client::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        (client, Eager::new(UnixStream::from_std(server).unwrap()))
    }

    /// One poll, without a turn of the event loop.
    fn read(server: &mut Eager<UnixStream>) -> Poll<Vec<u8>> {
        let mut bytes = [0; 64];
        let mut buffer = ReadBuf::new(&mut bytes);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(server)
            .poll_read(&mut cx, &mut buffer)
            .map(|result| {
                result.unwrap();
                buffer.filled().to_vec()
            })
    }

    #[tokio::test]
    async fn what_is_there_is_read_and_answered_without_a_turn_of_the_event_loop() {
        let (mut client, mut server) = pair();
        client.write_all(b"ask").unwrap();
        assert_eq!(read(&mut server), Poll::Ready(b"ask".to_vec()));
        let mut cx = Context::from_waker(Waker::noop());
        let written = Pin::new(&mut server).poll_write(&mut cx, b"answer");
        assert!(matches!(written, Poll::Ready(Ok(6))), "{written:?}");
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
        client.write_all(b"more").unwrap();
        assert_eq!(read(&mut server), Poll::Pending, "only the first read is");
    }

    #[tokio::test]
    async fn who_sends_later_is_waited_for() {
        let (mut client, mut server) = pair();
        assert_eq!(read(&mut server), Poll::Pending);
        client.write_all(b"ask").unwrap();
        let mut bytes = [0; 3];
        tokio::io::AsyncReadExt::read_exact(&mut server, &mut bytes)
            .await
            .unwrap();
        assert_eq!(&bytes, b"ask");
    }

    /// Gives connections whose request is there, and notes whether each has its answer when the next is
    /// asked for.
    struct Backlog {
        waiting: Vec<Eager<UnixStream>>,
        given: Vec<Client>,
        clients: Vec<Client>,
        answered: Arc<Mutex<Vec<bool>>>,
    }

    impl Accept for Backlog {
        type Io = Eager<UnixStream>;

        async fn accept(&mut self) -> io::Result<Self::Io> {
            if let Some(last) = self.given.last_mut() {
                let is_answered = last.read(&mut [0; 64]).is_ok();
                self.answered.lock().unwrap().push(is_answered);
            }
            match (self.waiting.pop(), self.clients.pop()) {
                (Some(next), Some(client)) => {
                    self.given.push(client);
                    Ok(next)
                }
                _ => pending().await,
            }
        }
    }

    #[tokio::test]
    async fn a_request_that_is_there_is_answered_before_the_next_connection_is_accepted() {
        let (mut clients, waiting): (Vec<_>, Vec<_>) = std::iter::repeat_with(pair).take(3).unzip();
        for client in &mut clients {
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        }
        let answered = Arc::default();
        let backlog = Backlog {
            waiting,
            given: Vec::new(),
            clients,
            answered: Arc::clone(&answered),
        };
        let (pool, stop) = (Connections::new(16, counters()), CancellationToken::new());
        let serving = tokio::spawn(serve(backlog, Limits::default(), pool, respond, stop));
        let all_asked = async {
            while answered.lock().unwrap().len() < 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_asked)
            .await
            .unwrap();
        assert_eq!(*answered.lock().unwrap(), [true; 3]);
        serving.abort();
    }
}
