//! A listener that can be closed and opened again on the same port.

use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rustls::ServerConfig;
use s3s::Body;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How connections to a TLS listener are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// A handshake with the certificate clients trust.
    #[default]
    Normal,
    /// Bytes that are no TLS record, then the end.
    Garbage,
    /// A certificate of an authority that no client trusts.
    OtherCertificate,
}

/// Answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Chooses the TLS configuration for a new connection; `None` sends garbage instead.
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        None
    }

    /// Answers one request. Cancelling `close` drops its connection at once.
    fn handle(
        &self,
        request: Request<Incoming>,
        close: CancellationToken,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// A listener and its connections.
pub(crate) struct Listener {
    addr: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Listener {
    /// Binds `addr` and serves; with `tls`, the handler chooses each connection's certificate.
    pub(crate) async fn tcp<H: Handler>(
        addr: SocketAddr,
        tls: bool,
        handler: Arc<H>,
    ) -> Result<Self> {
        let socket = TcpListener::bind(addr)
            .await
            .with_context(|| format!("listen on {addr}"))?;
        let listener = Self::new(Some(socket.local_addr()?));
        let (stop, tasks) = (listener.stop.clone(), listener.tasks.clone());
        listener.tasks.spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(socket.accept()).await {
                let (handler, stop) = (handler.clone(), stop.child_token());
                tasks.spawn(async move {
                    let serve = connection(stream, tls, handler, stop.clone());
                    stop.run_until_cancelled(serve).await;
                });
            }
        });
        Ok(listener)
    }

    /// Binds a unix socket at `path` (replacing one) and serves plain HTTP.
    pub(crate) fn unix<H: Handler>(path: &Path, handler: Arc<H>) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("replace {}", path.display()));
            }
            _ => {}
        }
        let socket =
            UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
        let listener = Self::new(None);
        let (stop, tasks) = (listener.stop.clone(), listener.tasks.clone());
        listener.tasks.spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(socket.accept()).await {
                let (handler, stop) = (handler.clone(), stop.child_token());
                tasks.spawn(async move {
                    let serve = http(stream, handler, stop.clone());
                    stop.run_until_cancelled(serve).await;
                });
            }
        });
        Ok(listener)
    }

    fn new(addr: Option<SocketAddr>) -> Self {
        Self {
            addr,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// The bound address; `None` for a unix socket.
    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Closes the socket and every connection, and waits until that is done.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn connection<H: Handler>(
    mut stream: TcpStream,
    tls: bool,
    handler: Arc<H>,
    close: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    if !tls {
        return http(stream, handler, close).await;
    }
    let Some(config) = handler.tls() else {
        let _ = stream.write_all(b"this is not TLS\n").await;
        return;
    };
    match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => http(stream, handler, close).await,
        Err(error) => tracing::debug!(%error, "TLS handshake failed"),
    }
}

async fn http<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handler: Arc<H>,
    close: CancellationToken,
) {
    let service = service_fn(move |request| {
        let (handler, close) = (handler.clone(), close.clone());
        async move { Ok::<_, Infallible>(handler.handle(request, close).await) }
    });
    let served = Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "connection ended");
    }
}
