//! A fresh connection that is read and written before the runtime has heard of it.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
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
/// One with a `H` that holds the connection where it outlives this process leaves its first request
/// in the kernel until that is answered, or has to wait: whoever takes the connection over finds
/// the request there.
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
    _held: H,
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
    /// The same for a TCP connection that `held`, where there is one, holds.
    pub fn held(io: T, held: Option<H>) -> Self {
        Self {
            io,
            has_read: false,
            has_written: false,
            unanswered: held.map(|held| Unanswered {
                seen: 0,
                _held: held,
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

impl<T: AsFd, H> Drop for Eager<T, H> {
    fn drop(&mut self) {
        self.let_go();
    }
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
        if !std::mem::replace(&mut self.has_read, true) {
            if let Some(read) = self.first_read(buf) {
                return Poll::Ready(read);
            }
        } else if self.unanswered.is_some() {
            // hyper looks for a client's end while it answers. What epoll tells first is the request itself:
            // it is a turn of the event loop later then, and the answer must wait for something.
            ready!(self.io.poll_readable(cx))?;
            self.let_go();
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream as TcpClient};
    use std::os::unix::net::UnixStream as Client;
    use std::sync::{Arc, Mutex};
    use std::task::Waker;
    use std::time::Duration;

    use tokio::net::{TcpStream, UnixStream};
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
    fn read<T, H>(server: &mut Eager<T, H>) -> Poll<Vec<u8>>
    where
        T: AsyncRead + Readable + AsFd + Unpin,
        H: Unpin,
    {
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

    /// A client, the connection to it while something holds that, and whether something does.
    fn held() -> (TcpClient, Eager<TcpStream, Arc<()>>, impl Fn() -> bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpClient::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let hold = Arc::new(());
        let observed = Arc::downgrade(&hold);
        let server = Eager::held(TcpStream::from_std(server).unwrap(), Some(hold));
        (client, server, move || observed.strong_count() > 0)
    }

    /// What is still in the kernel.
    fn unread(connection: &impl AsFd) -> Vec<u8> {
        let mut bytes = [0; 64];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let seen = rustix::net::recv(connection.as_fd(), &mut bytes[..], flags);
        bytes[..seen.map_or(0, |(length, _)| length)].to_vec()
    }

    #[tokio::test]
    async fn a_held_request_stays_in_the_kernel_until_it_is_answered() {
        let (mut client, mut server, is_held) = held();
        client.write_all(b"ask").unwrap();
        assert_eq!(read(&mut server), Poll::Ready(b"ask".to_vec()));
        assert_eq!(read(&mut server), Poll::Pending, "hyper looks for its end");
        assert!(is_held());
        assert_eq!(unread(&server.io), b"ask");
        let mut cx = Context::from_waker(Waker::noop());
        let written = Pin::new(&mut server).poll_write(&mut cx, b"answer");
        assert!(matches!(written, Poll::Ready(Ok(6))), "{written:?}");
        assert!(!is_held());
        assert_eq!(unread(&server.io), b"");
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        client.write_all(b"more").unwrap();
        let mut bytes = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut server, &mut bytes)
            .await
            .unwrap();
        assert_eq!(&bytes, b"more", "the first request does not come again");
    }

    #[tokio::test]
    async fn what_has_to_wait_is_held_no_longer_and_each_byte_comes_once() {
        let (mut client, mut server, is_held) = held();
        client.write_all(b"as").unwrap();
        assert_eq!(read(&mut server), Poll::Ready(b"as".to_vec()));
        assert!(is_held());
        client.write_all(b"k").unwrap();
        let mut bytes = [0; 1];
        tokio::io::AsyncReadExt::read_exact(&mut server, &mut bytes)
            .await
            .unwrap();
        assert_eq!(&bytes, b"k");
        assert!(!is_held());
    }

    #[tokio::test]
    async fn a_held_connection_without_an_answer_ends_without_a_reset() {
        let (mut client, mut server, is_held) = held();
        client.write_all(b"ask").unwrap();
        assert_eq!(read(&mut server), Poll::Ready(b"ask".to_vec()));
        drop(server);
        assert!(!is_held());
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_is_not_held() {
        let (client, mut server, is_held) = held();
        assert_eq!(read(&mut server), Poll::Pending);
        assert!(!is_held());
        drop(client);
        let mut bytes = [0; 1];
        let end = tokio::io::AsyncReadExt::read(&mut server, &mut bytes).await;
        assert_eq!(end.unwrap(), 0);
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
