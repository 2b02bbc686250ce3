//! A hyper server that gives everybody the same answer: what an answer costs at least. It is a
//! process of its own with as many threads as the agent has.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tests::namespace::Namespace;
use tests::pod::Pod;
use tests::{http, wait};
use tokio::net::TcpListener;

/// The bare server, in a network namespace of its own. Killed when dropped.
pub(crate) struct Server {
    namespace: Namespace,
    child: Child,
}

impl Server {
    /// Starts it and waits until it answers.
    pub(crate) fn start(body: &str) -> anyhow::Result<Self> {
        let namespace = Namespace::new("bare", None)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare").stdin(Stdio::piped());
        let child = namespace.call(move || command.spawn())?;
        let mut server = Self { namespace, child };
        let mut input = server.child.stdin.take().context("stdin is piped")?;
        input.write_all(body.as_bytes())?;
        drop(input);
        wait::until("the bare server answers", Duration::from_secs(10), || {
            let asked = http::get(Pod::listener(), "/", None);
            server.namespace.run(asked).is_ok()
        })?;
        Ok(server)
    }

    /// Where it listens, on the address of a Pod's listener.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the body on standard input until it is killed.
pub(crate) fn serve() -> anyhow::Result<()> {
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body)?;
    let body = Bytes::from(body);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all();
    runtime.build()?.block_on(async {
        let listener = TcpListener::bind(Pod::listener()).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let body = body.clone();
            let service = service_fn(move |_| {
                let response = Response::builder()
                    .header("content-type", "application/json")
                    .header("cache-control", "no-store")
                    .body(Full::new(body.clone()));
                std::future::ready(response)
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}
