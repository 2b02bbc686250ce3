//! Real sockets; every wait is for a condition, with a deadline.

mod accepting;

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt as _;
use prometheus::IntCounter;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

pub(super) fn counters() -> Counters {
    let counter = || IntCounter::new("c", "c").unwrap();
    Counters {
        connections: IntGauge::new("g", "g").unwrap(),
        listener_pauses: counter(),
        total_pauses: counter(),
        accept_errors: counter(),
        suppressed_log_lines: counter(),
    }
}

struct Server {
    address: std::net::SocketAddr,
    counters: Counters,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

pub(super) async fn respond(request: Request<Incoming>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/panic" => panic!("asked to"),
        "/large" => Response::new(Full::new(Bytes::from(vec![b'x'; 64 << 20]))),
        "/never" => std::future::pending().await,
        "/read" => {
            let _ = request.into_body().collect().await;
            Response::new(Full::new(Bytes::from_static(b"hello")))
        }
        _ => Response::new(Full::new(Bytes::from_static(b"hello"))),
    }
}

async fn start(limits: Limits, total: usize) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (counters, shutdown) = (counters(), CancellationToken::new());
    Server {
        address: listener.local_addr().unwrap(),
        counters: counters.clone(),
        shutdown: shutdown.clone(),
        task: tokio::spawn(serve(
            listener,
            limits,
            Connections::new(total, counters),
            respond,
            shutdown,
        )),
    }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `bytes` and gives all that comes back until the close.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut client = self.connect().await;
        // The server may close before it has read all.
        let _ = client.write_all(bytes).await;
        rest(&mut client).await
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What comes until the close; a reset is a close too.
async fn rest(client: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut all = Vec::new();
    let _ = timeout(DEADLINE, client.read_to_end(&mut all))
        .await
        .expect("the connection is closed in time");
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads up to the end of one small answer.
async fn answer(client: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut all = Vec::new();
    while !all.ends_with(b"hello") {
        let read = timeout(DEADLINE, client.read_buf(&mut all)).await;
        assert_ne!(read.expect("in time").unwrap(), 0, "closed early");
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_slow_head_is_cut_while_an_idle_connection_stays() {
    let limits = Limits {
        head_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = start(limits, 10).await;
    let mut idle = server.connect().await;
    idle.write_all(GET).await.unwrap();
    answer(&mut idle).await;

    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HT").await.unwrap();
    assert_eq!(rest(&mut slow).await, "");
    assert_eq!(rest(&mut silent).await, "");

    idle.write_all(GET).await.unwrap();
    answer(&mut idle).await;
    idle.write_all(b"GET / HT").await.unwrap();
    assert_eq!(rest(&mut idle).await, "", "a later head has its time too");
}

#[tokio::test]
async fn an_idle_connection_ends_at_the_idle_timeout() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let answers = start(limits, 10).await.exchange(GET).await;
    assert!(answers.ends_with("hello"), "{answers}");
}

#[tokio::test]
async fn idle_connections_end_early_while_more_than_half_of_all_are_taken() {
    let limits = Limits {
        per_listener: 2,
        crowded_idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = start(limits, 10).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    until("two connections", || server.counters.connections.get() == 2).await;
    second.write_all(GET).await.unwrap();
    assert!(rest(&mut second).await.ends_with("hello"));
    first.write_all(GET).await.unwrap();
    answer(&mut first).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_431() {
    let server = start(Limits::default(), 10).await;
    let mut request = b"GET / HTTP/1.1\r\nx: ".to_vec();
    request.resize(40 << 10, b'a');
    let mut client = server.connect().await;
    client.write_all(&request).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");

    request.resize(1 << 20, b'a');
    server.exchange(&request).await;
    until("no connection", || server.counters.connections.get() == 0).await;
}

#[tokio::test]
async fn what_is_not_http_1_ends_its_own_connection_alone() {
    let server = start(Limits::default(), 10).await;
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for bytes in [preface, b"\x16\x03\x01garbage\r\n\r\n", b"GET\r\n\r\n"] {
        let answer = server.exchange(bytes).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{answer}"
        );
    }
    let odd = server.exchange(b"BREW / HTTP/1.0\r\n\r\n").await;
    assert!(odd.starts_with("HTTP/1.0 200"), "{odd}");
    assert!(odd.ends_with("hello"), "{odd}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_turn() {
    let server = start(Limits::default(), 10).await;
    let last = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
    let answers = server.exchange(&[GET, GET, last].concat()).await;
    assert_eq!(answers.matches("hello").count(), 3, "{answers}");
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let server = start(Limits::default(), 10).await;
    let request = b"HEAD / HTTP/1.1\r\nconnection: close\r\n\r\n";
    let answer = server.exchange(request).await;
    assert!(answer.contains("content-length: 5\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_slow_body_is_not_waited_for() {
    let server = start(Limits::default(), 10).await;
    let begun = Instant::now();
    let request = b"POST / HTTP/1.1\r\ncontent-length: 1000\r\n\r\nslow";
    let answer = server.exchange(request).await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(begun.elapsed() < Limits::default().head_timeout);
}

#[tokio::test]
async fn a_body_behind_its_head_is_not_taken_for_the_next_head() {
    let limits = Limits {
        head_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = start(limits, 10).await;
    let mut idle = server.connect().await;
    for _ in 0..2 {
        // The server asks for the body once it works, so it cannot come with the head.
        let head = b"POST /read HTTP/1.1\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
        idle.write_all(head).await.unwrap();
        let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        idle.read_exact(&mut asked).await.unwrap();
        idle.write_all(b"body").await.unwrap();
        answer(&mut idle).await;

        // As long as a head may take.
        let mut silent = server.connect().await;
        assert_eq!(rest(&mut silent).await, "");
    }
    idle.write_all(GET).await.unwrap();
    answer(&mut idle).await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut() {
    let limits = Limits {
        write_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = start(limits, 10).await;
    let mut client = server.connect().await;
    client
        .write_all(b"GET /large HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    until("the connection", || server.counters.connections.get() == 1).await;
    until("its end", || server.counters.connections.get() == 0).await;
}

#[tokio::test]
async fn at_a_limit_clients_wait_and_are_served_when_a_connection_ends() {
    for (per_listener, total) in [(1, 10), (10, 1)] {
        let limits = Limits {
            per_listener,
            ..Limits::default()
        };
        let server = start(limits, total).await;
        let first = server.connect().await;
        until("it is served", || server.counters.connections.get() == 1).await;
        let mut waiting = server.connect().await;
        waiting.write_all(GET).await.unwrap();
        let pauses = || {
            let own = server.counters.listener_pauses.get();
            (own, server.counters.total_pauses.get())
        };
        until("a pause", || pauses() != (0, 0)).await;
        assert_eq!(pauses(), if total == 1 { (0, 1) } else { (1, 0) });
        assert_eq!(server.counters.connections.get(), 1);
        drop(first);
        answer(&mut waiting).await;
    }
}

#[tokio::test]
async fn a_drain_answers_what_is_asked_just_then_and_closes_idle_connections() {
    let counters = counters();
    let (release, released) = (CancellationToken::new(), CancellationToken::new());
    let (ask, shutdown) = (release.clone(), CancellationToken::new());
    let begun = released.clone();
    let path = std::env::temp_dir().join(format!("serve-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let service = move |request: Request<Incoming>| {
        let (ask, begun) = (ask.clone(), begun.clone());
        async move {
            if request.uri().path() == "/held" {
                begun.cancel();
                ask.cancelled().await;
            }
            Response::new(Full::new(Bytes::from_static(b"hello")))
        }
    };
    let task = tokio::spawn(serve(
        listener,
        Limits::default(),
        Connections::new(10, counters.clone()),
        service,
        shutdown.clone(),
    ));
    let mut idle = UnixStream::connect(&path).await.unwrap();
    idle.write_all(GET).await.unwrap();
    answer(&mut idle).await;
    let mut held = UnixStream::connect(&path).await.unwrap();
    held.write_all(b"GET /held HTTP/1.1\r\n\r\n").await.unwrap();
    timeout(DEADLINE, released.cancelled()).await.unwrap();

    // One that has connected and sent nothing, and one that has had an answer, ask during the drain.
    let mut silent = UnixStream::connect(&path).await.unwrap();
    let mut again = UnixStream::connect(&path).await.unwrap();
    again.write_all(GET).await.unwrap();
    answer(&mut again).await;
    until("all are accepted", || counters.connections.get() == 4).await;
    shutdown.cancel();
    for late in [&mut silent, &mut again] {
        late.write_all(GET).await.unwrap();
        let last = rest(late).await;
        assert!(last.contains("connection: close\r\n"), "{last}");
    }
    assert_eq!(rest(&mut idle).await, "");
    assert!(!task.is_finished());
    release.cancel();
    let last = rest(&mut held).await;
    assert!(last.contains("connection: close\r\n"), "{last}");
    timeout(DEADLINE, task).await.unwrap().unwrap();
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn an_abandoned_drain_closes_everything() {
    let server = start(Limits::default(), 10).await;
    let mut held = server.connect().await;
    held.write_all(b"GET /never HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    until("it is served", || server.counters.connections.get() == 1).await;
    server.shutdown.cancel();
    server.task.abort();
    assert_eq!(rest(&mut held).await, "");
}

#[tokio::test]
async fn a_panic_ends_one_connection_and_is_counted() {
    let panics = IntCounter::new("panics", "panics").unwrap();
    crate::telemetry::count_panics(panics.clone());
    let server = start(Limits::default(), 1).await;
    let answer = server.exchange(b"GET /panic HTTP/1.1\r\n\r\n").await;
    assert_eq!(answer, "");
    assert!(panics.get() >= 1);
    let next = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
    assert!(server.exchange(next).await.ends_with("hello"));
}
