//! Real sockets and real handshakes.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use prometheus::{IntCounter, IntGauge};
use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use shared::serve::{Connections, Counters, Limits, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

struct Server {
    address: std::net::SocketAddr,
    slot: Arc<Slot>,
    failures: IntCounter,
    _stop: tokio_util::sync::DropGuard,
}

async fn start(head_timeout: Duration) -> Server {
    let counter = || IntCounter::new("c", "c").unwrap();
    let counters = Counters {
        connections: IntGauge::new("g", "g").unwrap(),
        listener_pauses: counter(),
        total_pauses: counter(),
        accept_errors: counter(),
        suppressed_log_lines: counter(),
    };
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (slot, failures) = (Arc::new(Slot::default()), counter());
    let address = socket.local_addr().unwrap();
    let listener = Listener::new(socket, Arc::clone(&slot), failures.clone()).unwrap();
    let limits = Limits {
        head_timeout,
        ..Limits::default()
    };
    let stop = CancellationToken::new();
    let answer = |_request| async { hyper::Response::new(Full::new(Bytes::from_static(b"hello"))) };
    let pool = Connections::new(64, counters);
    tokio::spawn(serve(listener, limits, pool, answer, stop.clone()));
    Server {
        address,
        slot,
        failures,
        _stop: stop.drop_guard(),
    }
}

fn pair() -> (Pair, CertificateDer<'static>) {
    let Generated { cert, signing_key } =
        generate_simple_self_signed(["injector.caios.svc".to_owned()]).unwrap();
    let pair = Pair::from_pem(
        cert.pem().as_bytes(),
        signing_key.serialize_pem().as_bytes(),
    );
    (pair.unwrap(), cert.der().clone())
}

impl Server {
    /// What a client that trusts `authority` alone gets.
    async fn ask(&self, authority: &CertificateDer<'static>) -> io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("injector.caios.svc").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await?;
        let request = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn until_failed(&self, count: u64) {
        timeout(DEADLINE, async {
            while self.failures.get() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the handshake is counted as failed");
    }
}

#[tokio::test]
async fn the_certificate_changes_between_two_handshakes() {
    let server = start(DEADLINE).await;
    let ((one, trusts_one), (two, trusts_two)) = (pair(), pair());
    assert!(!server.slot.is_loaded());
    server.ask(&trusts_one).await.unwrap_err();
    server.slot.load(one);
    assert!(server.ask(&trusts_one).await.unwrap().ends_with("hello"));
    server.slot.load(two);
    server.ask(&trusts_one).await.unwrap_err();
    assert!(server.ask(&trusts_two).await.unwrap().ends_with("hello"));
}

#[tokio::test]
async fn hostile_clients_hold_up_nobody_and_are_cut() {
    let server = start(Duration::from_millis(300)).await;
    let (pair, trusted) = pair();
    server.slot.load(pair);
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    // The first bytes of a handshake, and no more.
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain
        .write_all(b"POST /mutate HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    assert!(server.ask(&trusted).await.unwrap().ends_with("hello"));
    server.until_failed(1).await;
    for mut client in silent.into_iter().chain([slow, plain]) {
        let mut rest = Vec::new();
        let read = timeout(DEADLINE, client.read_to_end(&mut rest)).await;
        let _closed_or_reset = read.expect("the connection is closed in time");
        assert!(!String::from_utf8_lossy(&rest).contains("hello"));
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_and_nothing_is_shown() {
    let certificate = |name: &str| generate_simple_self_signed([name.to_owned()]).unwrap();
    let (one, two) = (certificate("one"), certificate("two"));
    let (chain, key) = (one.cert.pem(), two.signing_key.serialize_pem());
    let wrong = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(wrong, PairError::Mismatch(_)), "{wrong:?}");
    assert!(matches!(
        Pair::from_pem(b"", key.as_bytes()),
        Err(PairError::Certificate)
    ));
    assert!(matches!(
        Pair::from_pem(chain.as_bytes(), b""),
        Err(PairError::Key)
    ));
    let own = Pair::from_pem(chain.as_bytes(), one.signing_key.serialize_pem().as_bytes());
    assert_eq!(format!("{:?}", own.unwrap()), "Pair(1 certificates)");
}
