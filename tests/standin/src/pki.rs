//! The certificate authority of one stand-in.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};

/// A certificate authority and one server certificate it signed.
pub(crate) struct Pki {
    /// The authority's certificate, PEM.
    pub(crate) ca_pem: String,
    /// TLS with the certificate for the names given to [`Pki::generate`].
    pub(crate) server: Arc<ServerConfig>,
}

impl Pki {
    /// Makes an authority and a certificate for loopback and `names`.
    ///
    /// # Errors
    /// A name is no valid certificate name.
    pub(crate) fn generate(names: &[String]) -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name
            .push(DnType::CommonName, "stand-in authority");
        let ca_cert = ca.self_signed(&ca_key)?;
        let authority = Issuer::new(ca, ca_key);

        let mut all = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
        all.extend_from_slice(names);
        let key = KeyPair::generate()?;
        let cert = CertificateParams::new(all)
            .context("make the stand-in's certificate")?
            .signed_by(&key, &authority)?;
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|reason| anyhow::anyhow!("read the stand-in's private key: {reason}"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], private)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            ca_pem: ca_cert.pem(),
            server: Arc::new(server),
        })
    }
}
