//! What a stand-in is started with.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// What a stand-in is started with. Port 0 takes any free port.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where CoreWeave's API is served (TLS).
    pub api_listen: SocketAddr,
    /// Where S3 is served (plain HTTP).
    pub s3_listen: SocketAddr,
    /// Where discovery and JWKS are served.
    pub issuer_listen: SocketAddr,
    /// Serves the issuer over TLS with the stand-in's CA; plain HTTP otherwise.
    pub issuer_tls: bool,
    /// Directory that holds buckets; made if absent.
    pub s3_root: PathBuf,
    /// Base domains for virtual-host addressing: `bucket.<domain>`.
    pub s3_domains: Vec<String>,
    /// Names in the certificate besides `localhost`, `127.0.0.1` and `::1`.
    pub names: Vec<String>,
    /// The issuer URL in tokens and discovery; derived from the listener when absent.
    pub issuer_url: Option<String>,
    /// The organisation whose exchanges are accepted.
    pub org_id: String,
    /// Audiences registered for the issuer besides the issuer URL.
    pub audiences: Vec<String>,
}

impl Options {
    /// Serves everything on free ports of `127.0.0.1`, with buckets under `s3_root`.
    pub fn local(s3_root: impl Into<PathBuf>) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            api_listen: any,
            s3_listen: any,
            issuer_listen: any,
            issuer_tls: true,
            s3_root: s3_root.into(),
            s3_domains: vec!["s3.test".to_owned()],
            names: Vec::new(),
            issuer_url: None,
            org_id: "org-test".to_owned(),
            audiences: Vec::new(),
        }
    }
}
