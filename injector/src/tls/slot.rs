//! The certificate that is served, which may change between two handshakes.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate chain and its private key, known to belong together.
#[derive(Clone)]
pub struct Pair(Arc<CertifiedKey>);

/// Why a certificate and a key are of no use.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// No certificate in the PEM.
    #[error("no certificate can be read from the PEM")]
    Certificate,
    /// No private key in the PEM.
    #[error("no private key can be read from the PEM")]
    Key,
    /// The two do not belong together, or the key is of an unknown kind.
    #[error("the key does not fit the certificate")]
    Mismatch(#[source] rustls::Error),
}

impl Pair {
    /// Reads a certificate chain, leaf first, and its key.
    ///
    /// # Errors
    /// [`PairError`]; it never shows what was read.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, PairError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|_error| PairError::Certificate)?;
        if chain.is_empty() {
            return Err(PairError::Certificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_error| PairError::Key)?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map(|pair| Self(Arc::new(pair)))
            .map_err(PairError::Mismatch)
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }
}

/// Names no key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pair({} certificates)", self.0.cert.len())
    }
}

/// Holds the certificate that is served.
#[derive(Default)]
pub struct Slot(ArcSwapOption<CertifiedKey>);

impl Slot {
    /// Serves `pair` from the next handshake on.
    pub fn load(&self, pair: Pair) {
        self.0.store(Some(pair.0));
    }

    /// Whether there is a certificate.
    pub fn is_loaded(&self) -> bool {
        self.0.load().is_some()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot(loaded: {})", self.is_loaded())
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}
