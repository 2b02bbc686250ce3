//! The agent's own way out: a proxy that the environment names, and certificate authorities.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use standin::Part;
use tests::node::Node;
use tests::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A proxy in the node's network namespace that keeps what it was asked.
struct Proxy {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Leads every `CONNECT` to `target`; answers 407 where there is none.
    fn start(node: &Node, target: Option<SocketAddr>) -> Self {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let address = node.namespace().run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(lead(stream, target, Arc::clone(&seen)));
                }
            });
            address
        });
        Self {
            url: format!("http://{address}"),
            heads,
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn lead(mut stream: TcpStream, target: Option<SocketAddr>, seen: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    seen.lock().unwrap().push(String::from_utf8(head).unwrap());
    let Some(target) = target else {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(refusal).await.unwrap();
        return;
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let mut upstream = TcpStream::connect(target).await.unwrap();
    // Either side may end in any way.
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
}

/// The flags of an agent that knows CoreWeave's API by the name `localhost`, and the issuer by its
/// address: so that a test can send one of the two through the proxy.
fn arguments(node: &Node, further: &[&str]) -> Vec<String> {
    let mut arguments = node.agent_arguments();
    let url = format!("https://{}", api(node));
    let flag = arguments
        .iter()
        .position(|argument| argument == "--api-url");
    arguments[flag.unwrap() + 1] = url;
    arguments.extend(further.iter().map(|&argument| argument.to_owned()));
    arguments
}

fn api(node: &Node) -> String {
    format!("localhost:{}", node.standin().addr(Part::Api).port())
}

#[test]
fn the_proxy_of_the_environment_is_used_except_for_its_exceptions() {
    for (exceptions, asked) in [("127.0.0.1", 1), ("127.0.0.1,localhost", 0)] {
        let node = Node::new().unwrap();
        let proxy = Proxy::start(&node, Some(node.standin().addr(Part::Api)));
        let variables = [
            ("HTTPS_PROXY", proxy.url.as_str()),
            ("NO_PROXY", exceptions),
        ];
        let agent = node.spawn_agent_with(&arguments(&node, &[]), &variables);
        let _agent = agent.unwrap().ready().unwrap();
        let pod = node.enrolled_pod("trainer", "train-0").unwrap();
        assert_eq!(pod.credentials().unwrap().status, 200);
        assert_eq!(node.standin().calls().exchanges(), 1);
        let heads = proxy.heads();
        assert_eq!(heads.len(), asked, "NO_PROXY={exceptions}: {heads:?}");
        let line = format!("CONNECT {} HTTP/1.1\r\n", api(&node));
        assert!(
            heads.iter().all(|head| head.starts_with(&line)),
            "{heads:?}"
        );
    }
}

#[test]
fn a_proxy_that_refuses_is_no_connection_and_sees_no_token() {
    let node = Node::new().unwrap();
    let proxy = Proxy::start(&node, None);
    let variables = [
        ("HTTPS_PROXY", proxy.url.as_str()),
        ("NO_PROXY", "127.0.0.1"),
    ];
    let flags = arguments(&node, &["--hold-limit", "1s"]);
    let agent = node.spawn_agent_with(&flags, &variables).unwrap();
    let agent = agent.ready().unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let answer = pod.credentials().unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("no connection"), "{answer:?}");
    let series = r#"caios_agent_exchange_requests_total{method="post",outcome="unavailable"}"#;
    assert!(agent.count(series) >= 1);
    assert_eq!(node.standin().calls().exchanges(), 0);
    let token = pod.token().unwrap();
    assert!(!proxy.heads().is_empty());
    assert!(proxy.heads().iter().all(|head| !head.contains(&token)));
}

#[test]
fn without_any_certificate_authority_the_start_fails_and_names_the_flag() {
    let node = Node::new().unwrap();
    let mut flags = node.agent_arguments();
    let flag = flags
        .iter()
        .position(|argument| argument == "--ca-file")
        .unwrap();
    flags.drain(flag..flag + 2);
    let empty = node.directory().join("no-authorities");
    std::fs::create_dir(&empty).unwrap();
    let file = empty.join("none.pem");
    std::fs::write(&file, "").unwrap();
    let variables = [
        ("SSL_CERT_FILE", file.to_str().unwrap()),
        ("SSL_CERT_DIR", empty.to_str().unwrap()),
    ];
    let mut agent = node.spawn_agent_with(&flags, &variables).unwrap();
    assert_eq!(agent.ended().unwrap().code(), Some(1));
    wait::until("the log is written", Duration::from_secs(5), || {
        agent.log().contains("`--ca-file`") && agent.log().contains("SSL_CERT_FILE")
    })
    .unwrap();
}
