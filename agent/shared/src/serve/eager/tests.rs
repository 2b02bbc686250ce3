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
async fn a_request_of_which_the_runtime_hears_at_once_stays_in_the_kernel_and_is_held() {
    let (mut client, mut server, is_held) = held();
    client.write_all(b"ask").unwrap();
    // As when another thread of the runtime asks epoll just then.
    server.io.readable().await.unwrap();
    assert_eq!(read(&mut server), Poll::Ready(b"ask".to_vec()));
    let mut polls = 0;
    let looked = std::future::poll_fn(|cx| {
        polls += 1;
        let mut bytes = [0; 1];
        let read = Pin::new(&mut server).poll_read(cx, &mut ReadBuf::new(&mut bytes));
        assert!(read.is_pending());
        if polls == 1 {
            assert!(is_held());
            return Poll::Pending;
        }
        Poll::Ready(())
    });
    looked.await;
    assert!(!is_held(), "the second turn");
    assert_eq!(unread(&server.io), b"ask");
}

#[tokio::test]
async fn what_has_to_wait_is_held_no_longer_and_stays_in_the_kernel_until_its_answer() {
    let (mut client, mut server, is_held) = held();
    client.write_all(b"ask").unwrap();
    assert_eq!(read(&mut server), Poll::Ready(b"ask".to_vec()));
    assert_eq!(read(&mut server), Poll::Pending, "hyper looks for its end");
    server.io.readable().await.unwrap();
    assert_eq!(read(&mut server), Poll::Pending, "and again");
    assert!(!is_held());
    assert_eq!(unread(&server.io), b"ask");
    let mut cx = Context::from_waker(Waker::noop());
    let written = Pin::new(&mut server).poll_write(&mut cx, b"answer");
    assert!(matches!(written, Poll::Ready(Ok(6))), "{written:?}");
    assert_eq!(unread(&server.io), b"");
    assert_eq!(read(&mut server), Poll::Pending, "it does not come again");
}

#[tokio::test]
async fn the_rest_of_a_request_comes_once() {
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
async fn who_hangs_up_on_a_request_that_waits_is_noticed() {
    let (mut client, mut server, _) = held();
    client.write_all(b"ask").unwrap();
    assert_eq!(read(&mut server), Poll::Ready(b"ask".to_vec()));
    assert_eq!(read(&mut server), Poll::Pending);
    server.io.readable().await.unwrap();
    assert_eq!(read(&mut server), Poll::Pending);
    let waits = tokio::spawn(async move {
        let mut bytes = [0; 1];
        tokio::io::AsyncReadExt::read(&mut server, &mut bytes).await
    });
    tokio::task::yield_now().await;
    drop(client);
    let end = tokio::time::timeout(Duration::from_secs(20), waits).await;
    assert_eq!(end.unwrap().unwrap().unwrap(), 0);
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
