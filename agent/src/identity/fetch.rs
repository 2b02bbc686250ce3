//! Small JSON documents over HTTP, and why they could not be had.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client, Url, header, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::quoted::Quoted;
use shared::causes::causes;
/// What is asked for: discovery documents are JSON, and kube-apiserver answers 406 to whoever does
/// not take its key set as what it is (RFC 7517, §8.5.2).
const DOCUMENTS: &str = "application/json, application/jwk-set+json";
/// Longer key sets and discovery documents are not read.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// For a connection with its TLS handshake.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// For one document, connection included.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why a key set could not be loaded. URLs are shown without query and user.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("reading {}: {error}", .path.display())]
    File {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("no certificate could be read from the CA file {}: {error}", .path.display())]
    Certificates { path: PathBuf, error: String },
    #[error("making an HTTP client: {0}")]
    Client(String),
    #[error("the URL {} is not one: {error}", Quoted(.url))]
    Url { url: String, error: String },
    #[error("GET {url}: {reason}")]
    Get { url: String, reason: String },
    #[error("{from} has more than {MAX_BYTES} bytes")]
    TooLong { from: String },
    #[error("{from} is not a {what}: {error}")]
    Unreadable {
        from: String,
        what: &'static str,
        error: serde_json::Error,
    },
    #[error("{from} has no key for RS256 (2048 bits or more) or ES256 with an id (kid)")]
    NoKey { from: String },
    #[error(
        "{from} names the issuer {}, but {} is configured: use the same text, to the slash",
        Quoted(.found), Quoted(.configured)
    )]
    OtherIssuer {
        from: String,
        found: String,
        configured: String,
    },
    #[error("no issuer is configured, and a bare key set names none")]
    NoIssuer,
    #[error("the issuer's jwks_uri {url} is not https, though the issuer is")]
    Downgrade { url: String },
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
}

/// The URL as messages show it.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Reads a whole file.
pub(super) async fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    tokio::fs::read(path)
        .await
        .map_err(|error| LoadError::File {
            path: path.to_owned(),
            error,
        })
}

/// Fetches from one source. Made anew for each load, so that a CA or token file that was replaced
/// is taken up.
pub(super) struct Fetcher {
    client: Client,
    token: Option<SecretString>,
}

impl Fetcher {
    /// Trusts `ca_file` alone, or the system's CAs where none is given; goes through the proxy
    /// that the environment names, if any.
    pub(super) async fn new(ca_file: Option<&Path>) -> Result<Self, LoadError> {
        let client = Self::client(ca_file, Client::builder()).await?;
        Ok(Self {
            client,
            token: None,
        })
    }

    /// For the API server: the agent's own token from `token_file`, and never a proxy.
    pub(super) async fn for_api_server(
        ca_file: Option<&Path>,
        token_file: &Path,
    ) -> Result<Self, LoadError> {
        let client = Self::client(ca_file, Client::builder().no_proxy()).await?;
        let text = Zeroizing::new(read(token_file).await?);
        let token = SecretString::from(String::from_utf8_lossy(text.trim_ascii()).into_owned());
        Ok(Self {
            client,
            token: Some(token),
        })
    }

    async fn client(
        ca_file: Option<&Path>,
        builder: reqwest::ClientBuilder,
    ) -> Result<Client, LoadError> {
        let mut builder = builder
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(DEADLINE)
            .redirect(redirect::Policy::none());
        if let Some(path) = ca_file {
            let pem = read(path).await?;
            let unreadable = |error| LoadError::Certificates {
                path: path.to_owned(),
                error,
            };
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(causes(&error)))?;
            // No block of PEM in the file is not an error to the parser.
            if certificates.is_empty() {
                return Err(unreadable("no PEM block in it".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        builder
            .build()
            .map_err(|error| LoadError::Client(causes(&error)))
    }

    /// The body of `url`, which must answer 200 with no more than [`MAX_BYTES`].
    pub(super) async fn get(&self, url: &Url) -> Result<Vec<u8>, LoadError> {
        let failed = |reason| LoadError::Get {
            url: shown(url),
            reason,
        };
        let mut request = self
            .client
            .get(url.clone())
            .header(header::ACCEPT, DOCUMENTS);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|error| failed(causes(&error.without_url())))?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(failed(format!("status {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| failed(causes(&error.without_url())))?
        {
            if body.len() + part.len() > MAX_BYTES {
                return Err(LoadError::TooLong { from: shown(url) });
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }

    /// The JSON document at `url`; `what` it is goes into the error.
    pub(super) async fn get_json<T: DeserializeOwned>(
        &self,
        url: &Url,
        what: &'static str,
    ) -> Result<T, LoadError> {
        let body = self.get(url).await?;
        serde_json::from_slice(&body).map_err(|error| LoadError::Unreadable {
            from: shown(url),
            what,
            error,
        })
    }
}
