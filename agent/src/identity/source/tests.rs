//! Real servers on real sockets.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::super::signer::{AUDIENCE, ISSUER, START, Signer, claims_with, key_set};
use super::super::{Settings, Verifier};
use super::*;
use crate::metrics::Metrics;
use shared::clock::Clock;

/// A file that is gone after the test.
struct TestFile(PathBuf);

impl TestFile {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file =
            Self(std::env::temp_dir().join(format!("source-{}-{number}", std::process::id())));
        file.replace(text);
        file
    }

    fn replace(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.0.clone()
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// A CA, as a file, and a server's TLS under it.
fn authority() -> (TestFile, TlsAcceptor) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let file = TestFile::new(&params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.into()],
            key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    (file, TlsAcceptor::from(Arc::new(config)))
}

/// What a path answers: the status and headers, then the body.
type Routes = Vec<(&'static str, &'static str, String)>;

/// A server that answers each path with fixed bytes and notes the requests' heads.
struct Server {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `routes` gets the server's own URL.
    async fn start(tls: Option<TlsAcceptor>, routes: impl FnOnce(&str) -> Routes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let routes = Arc::new(routes(&url));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&heads);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, routes, heads) = (tls.clone(), Arc::clone(&routes), Arc::clone(&noted));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &routes, &heads).await;
                            }
                        }
                        None => answer(stream, &routes, &heads).await,
                    }
                });
            }
        });
        Self { url, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    routes: &Routes,
    heads: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap().push(head);
    let found = routes.iter().find(|route| route.0 == path);
    let (status, body) = found.map_or(("404 Not Found", ""), |(_, status, body)| (*status, body));
    let text = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // The client may have seen enough before the end.
    stream.write_all(text.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}

fn discovery(issuer: &str, jwks_uri: &str) -> String {
    json!({ "issuer": issuer, "jwks_uri": jwks_uri, "response_types_supported": ["id_token"] })
        .to_string()
}

async fn refusal(source: &KeySource, configured: Option<&str>) -> String {
    match source.load(configured).await {
        Ok(loaded) => panic!("{} keys", loaded.keys.len()),
        Err(error) => error.to_string(),
    }
}

const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// What the API server answers: its `jwks_uri` leads elsewhere and must not be followed.
fn api_server(signer: &Signer) -> Routes {
    let elsewhere = discovery(ISSUER, "https://203.0.113.1/openid/v1/jwks");
    vec![
        (DISCOVERY_PATH, "200 OK", elsewhere),
        ("/openid/v1/jwks", "200 OK", key_set(&[signer])),
    ]
}

#[tokio::test]
async fn the_api_server_names_issuer_and_keys_to_the_token_and_ca_that_are_in_the_files_now() {
    let signer = Signer::ec("e");
    let (_, tls) = authority();
    let (stale_ca, _) = authority();
    let server = Server::start(Some(tls), |_| api_server(&signer)).await;
    let token = TestFile::new("first\n");
    let source = KeySource::ApiServer {
        url: server.url.parse().unwrap(),
        ca_file: Some(stale_ca.path()),
        token_file: token.path(),
    };
    let text = refusal(&source, None).await;
    assert!(
        text.contains(DISCOVERY_PATH) && text.contains("certificate"),
        "{text}"
    );
    assert!(server.heads().is_empty());

    let (ca, tls) = authority();
    let server = Server::start(Some(tls), |_| api_server(&signer)).await;
    let source = KeySource::ApiServer {
        url: server.url.parse().unwrap(),
        ca_file: Some(stale_ca.path()),
        token_file: token.path(),
    };
    refusal(&source, None).await;
    stale_ca.replace(&std::fs::read_to_string(ca.path()).unwrap());
    let loaded = source.load(None).await.ok().unwrap();
    assert_eq!(
        (loaded.issuer.as_deref(), loaded.keys.len()),
        (Some(ISSUER), 1)
    );
    token.replace("second");
    source.load(Some(ISSUER)).await.ok().unwrap();
    let bearers: Vec<bool> = server
        .heads()
        .iter()
        .map(|head| head.to_ascii_lowercase())
        .map(|head| head.contains("authorization: bearer first\r\n"))
        .collect();
    assert_eq!(bearers, [true, true, false, false]);
    let last = server.heads().pop().unwrap().to_ascii_lowercase();
    assert!(last.contains("authorization: bearer second\r\n"), "{last}");

    let text = refusal(&source, Some("https://cluster.example/id/1/")).await;
    assert!(
        text.contains(r#"names the issuer "https://cluster.example/id/1", but "https://cluster.example/id/1/" is configured"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_verifier_that_knows_no_issuer_learns_it_from_the_api_server() {
    let signer = Signer::ec("e");
    let (ca, tls) = authority();
    let server = Server::start(Some(tls), |_| api_server(&signer)).await;
    let token = TestFile::new("own");
    let source = KeySource::ApiServer {
        url: server.url.parse().unwrap(),
        ca_file: Some(ca.path()),
        token_file: token.path(),
    };
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let clock = Clock::anchored(jiff::Timestamp::from_second(START).unwrap());
    let verifier = Verifier::new(Settings::default(), source, clock, metrics).unwrap();
    let shutdown = CancellationToken::new();
    let request = async {
        let token = signer.sign(&claims_with("/aud", json!([AUDIENCE, ISSUER])));
        let workload = verifier.verify(Some(token.as_bytes()), None).await;
        shutdown.cancel();
        workload
    };
    let ((), workload) = tokio::join!(verifier.keep_keys(shutdown.clone()), request);
    let workload = workload.unwrap();
    assert_eq!(workload.identity.issuer(), ISSUER);
    assert_eq!(workload.identity.audience(), ISSUER);
}

#[tokio::test]
async fn discovery_follows_the_issuers_own_word_and_no_other() {
    let signer = Signer::ec("e");
    let (ca, tls) = authority();
    let server = Server::start(Some(tls), |url| {
        let named = |path: &str, jwks: &str| discovery(&format!("{url}{path}"), jwks);
        vec![
            (
                "/good/.well-known/openid-configuration",
                "200 OK",
                named("/good", &format!("{url}/keys?v=1")),
            ),
            ("/keys?v=1", "200 OK", key_set(&[&signer])),
            (
                "/other/.well-known/openid-configuration",
                "200 OK",
                named("/good", &format!("{url}/keys?v=1")),
            ),
            (
                "/plain/.well-known/openid-configuration",
                "200 OK",
                named("/plain", "http://127.0.0.1:1/keys"),
            ),
            (
                "/odd/.well-known/openid-configuration",
                "200 OK",
                named("/odd", "file:///etc/passwd"),
            ),
        ]
    })
    .await;
    let source = |path: &str| KeySource::Issuer {
        issuer: format!("{}{path}", server.url),
        ca_file: Some(ca.path()),
    };
    let loaded = source("/good").load(None).await.ok().unwrap();
    assert_eq!(loaded.issuer, Some(format!("{}/good", server.url)));
    for (path, part) in [
        ("/good/", "names the issuer"),
        ("/other", "names the issuer"),
        ("/plain", "is not https, though the issuer is"),
        ("/odd", "neither https nor http"),
        ("/absent", "status 404"),
    ] {
        let text = refusal(&source(path), None).await;
        assert!(text.contains(part), "{path}: {text}");
    }
}

#[tokio::test]
async fn bad_answers_are_told_apart_and_show_no_secret_of_the_url() {
    let signer = Signer::ec("e");
    let server = Server::start(None, |_| {
        vec![
            ("/good?key=canary", "200 OK", key_set(&[&signer])),
            (
                "/moved?key=canary",
                "302 Found\r\nlocation: /good?key=canary",
                String::new(),
            ),
            (
                "/down?key=canary",
                "500 Internal Server Error",
                key_set(&[&signer]),
            ),
            ("/page?key=canary", "200 OK", "<html>".to_owned()),
            ("/empty?key=canary", "200 OK", r#"{"keys":[]}"#.to_owned()),
            ("/large?key=canary", "200 OK", " ".repeat(MAX_BYTES + 1)),
        ]
    })
    .await;
    let (ca, _) = authority();
    let source = |base: &str, path: &str| KeySource::Url {
        url: format!("{base}{path}?key=canary").parse().unwrap(),
        ca_file: Some(ca.path()),
    };
    let loaded = source(&server.url, "/good").load(None).await.ok().unwrap();
    assert_eq!((loaded.issuer, loaded.keys.len()), (None, 1));
    let with_user = server.url.replace("http://", "http://canary:canary@");
    for base in [&server.url, &with_user] {
        for (path, part) in [
            ("/moved", "status 302"),
            ("/down", "status 500"),
            ("/page", "is not a JSON Web Key Set"),
            ("/empty", "has no key for RS256"),
            ("/large", "has more than 1048576 bytes"),
        ] {
            let source = source(base, path);
            let text = refusal(&source, None).await;
            assert!(text.contains(part), "{path}: {text}");
            assert!(!text.contains("canary"), "{path}: {text}");
            assert!(
                !format!("{source} {source:?}").contains("canary"),
                "{source}"
            );
        }
    }
    let text = refusal(&source("http://127.0.0.1:1", "/"), None).await;
    assert!(
        text.contains("Connection refused") && !text.contains("canary"),
        "{text}"
    );
    ca.replace("nonsense");
    let text = refusal(&source(&server.url, "/good"), None).await;
    assert!(text.contains("CA file"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_answers_is_given_up_after_five_seconds() {
    let (ca, _) = authority();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let source = KeySource::Url {
        url: url.parse().unwrap(),
        ca_file: Some(ca.path()),
    };
    let started = Instant::now();
    let text = refusal(&source, None).await;
    assert!(text.contains("timed out"), "{text}");
    assert!(
        started.elapsed().as_millis() <= 5_010,
        "{:?}",
        started.elapsed()
    );
}
