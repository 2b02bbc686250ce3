//! An HTTP/1 server for tests that does what it is told, one step for each request, and keeps what
//! it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What to do with the next request.
pub(super) enum Step {
    /// Sends this and closes.
    Send(String),
    /// Closes without a word.
    Cut,
    /// Never answers.
    Hang,
}

/// A response with a body of JSON.
pub(super) fn answer(status: u16, headers: &str, body: &str) -> Step {
    let length = body.len();
    Step::Send(format!(
        "HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    ))
}

/// The server; it ends when this is dropped.
pub(super) struct ScriptedServer {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl ScriptedServer {
    pub(super) async fn start(
        script: impl IntoIterator<Item = Step>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let mut script: VecDeque<_> = script.into_iter().collect();
        let task = tokio::spawn(async move {
            let mut hanging: Vec<Box<dyn Send>> = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                match &tls {
                    None => serve(stream, &mut script, &seen, &mut hanging).await,
                    // A client that does not trust the certificate ends the handshake.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, &mut script, &seen, &mut hanging).await;
                        }
                    }
                }
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    /// Every request so far: head and body as they came.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    mut stream: S,
    script: &mut VecDeque<Step>,
    seen: &Mutex<Vec<String>>,
    hanging: &mut Vec<Box<dyn Send>>,
) {
    let Some(request) = read_request(&mut stream).await else {
        return;
    };
    seen.lock().unwrap().push(request);
    match script
        .pop_front()
        .expect("the script has a step for each request")
    {
        Step::Send(response) => {
            // A client may hang up on an answer that is too long.
            let _ = stream.write_all(response.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Step::Cut => {}
        Step::Hang => hanging.push(Box::new(stream)),
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((head, body)) = request.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(request);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => request.push_str(str::from_utf8(&buffer[..n]).unwrap()),
        }
    }
}

/// A CA file; it is removed when this is dropped.
pub(super) struct CaFile(pub(super) PathBuf);

impl Drop for CaFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A self-signed certificate for `localhost`: what serves it, and its PEM in a file.
pub(super) fn certificate(file: &str) -> (TlsAcceptor, CaFile) {
    let names = ["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let path = std::env::temp_dir().join(format!("caios-{}-{file}.pem", std::process::id()));
    std::fs::write(&path, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), CaFile(path))
}
