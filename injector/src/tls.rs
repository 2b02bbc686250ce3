//! TLS on the connections of the API server.
//!
//! A handshake happens inside the connection's own reads and writes: it takes place in that
//! connection's task, under the deadline of a request's head, and never holds up `accept`.

mod connection;
mod slot;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use prometheus::IntCounter;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use shared::serve::Accept;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub use self::connection::Connection;
pub use self::slot::{Pair, PairError, Slot};

/// Accepts connections that speak TLS.
pub struct Listener {
    inner: TcpListener,
    acceptor: TlsAcceptor,
    failures: IntCounter,
}

impl Listener {
    /// Serves on `inner` the certificate that `slot` holds at each handshake; while it holds none,
    /// handshakes fail. Failed handshakes count in `failures`.
    ///
    /// # Errors
    /// [`rustls::Error`] when the TLS versions are not to be had.
    pub fn new(
        inner: TcpListener,
        slot: Arc<Slot>,
        failures: IntCounter,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        // 1.2 and 1.3; rustls knows nothing older.
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(slot);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            inner,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            failures,
        })
    }
}

impl Accept for Listener {
    type Io = Connection;

    async fn accept(&mut self) -> io::Result<Connection> {
        let stream = Accept::accept(&mut self.inner).await?;
        let handshake = self.acceptor.accept(stream);
        Ok(Connection::new(handshake, self.failures.clone()))
    }
}
