//! Hostile HTTP on one Pod's listener: every other Pod is served, limits show, memory is bounded.

use std::time::Duration;

use shared::contract;
use tests::http;
use tests::node::Node;
use tests::pod::Pod;
use tests::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[test]
fn ten_thousand_idle_connections_on_one_listener_stop_nobody_else() {
    let node = Node::new().unwrap();
    let agent = node
        .agent(&["--max-connections-per-listener", "64"])
        .unwrap();
    let hostile = node.enrolled_pod("hostile", "hostile-0").unwrap();
    let other = node.enrolled_pod("trainer", "train-0").unwrap();
    let before = agent.metric("process_resident_memory_bytes").unwrap();
    // Connections beyond the cap and the backlog stay half open: they are started, not awaited.
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    hostile.namespace().handle().spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        for _ in 0..10_000 {
            connections.spawn(async {
                let _open = TcpStream::connect(Pod::listener()).await;
                std::future::pending::<()>().await;
            });
        }
        let _ = ended.await;
    });
    wait::until("the limit shows", Duration::from_secs(30), || {
        agent.count("caios_agent_accept_pauses_total{limit=\"listener\"}") >= 1
    })
    .unwrap();
    for _ in 0..20 {
        assert_eq!(other.credentials().unwrap().status, 200);
    }
    assert!(agent.count("caios_agent_connections") <= 66);
    let grown = agent.metric("process_resident_memory_bytes").unwrap() - before;
    assert!(grown < 8e6, "memory grew by {grown} bytes");
    drop(end);
}

#[test]
fn hostile_bytes_end_their_own_connection_and_no_other() {
    let node = Node::new().unwrap();
    let agent = node.agent(&["--header-timeout", "1s"]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let token = pod.token().unwrap();
    pod.namespace().run(async move {
        let path = contract::CREDENTIALS_PATH;
        let head =
            |more: &str| format!("GET {path} HTTP/1.1\r\nAuthorization: {token}\r\n{more}\r\n");

        // A head that never ends is cut at its time limit.
        let mut slow = TcpStream::connect(Pod::listener()).await.unwrap();
        slow.write_all(b"GET /v1/credentials HTTP/1.1\r\nX-Slow: ")
            .await
            .unwrap();
        let mut rest = Vec::new();
        let cut = tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut rest)).await;
        assert!(cut.is_ok(), "a slow head is held for ever");

        // A body that never comes holds nothing: the answer is there before it.
        let mut bodied = TcpStream::connect(Pod::listener()).await.unwrap();
        bodied
            .write_all(head("Content-Length: 1000000\r\n").as_bytes())
            .await
            .unwrap();
        let mut first = [0; 12];
        bodied.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");

        // Pipelined requests are answered in order.
        let mut piped = TcpStream::connect(Pod::listener()).await.unwrap();
        let two = head("") + &head("Connection: close\r\n");
        piped.write_all(two.as_bytes()).await.unwrap();
        let mut answers = String::new();
        piped.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2);

        for (name, bytes) in [
            ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
            ("garbage", vec![0xff; 512]),
            (
                "unknown method",
                b"BREW / HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec(),
            ),
            (
                "1 MB of header",
                [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1_000_000]].concat(),
            ),
        ] {
            match http::send(Pod::listener(), bytes).await {
                Ok(answer) => assert!((400..500).contains(&answer.status), "{name}: {answer:?}"),
                Err(_closed) => {}
            }
        }
        let answer = http::get(Pod::listener(), path, Some(&token))
            .await
            .unwrap();
        assert_eq!(answer.status, 200);
    });
    assert_eq!(agent.count("caios_agent_panics_total"), 0);
}
