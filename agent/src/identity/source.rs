//! Where an issuer's keys come from.

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use serde::Deserialize;

use super::fetch::{Fetcher, LoadError, MAX_BYTES, read, shown};
use super::keys::Key;

/// Where the keys come from. All files are read anew for each load, so they may be replaced.
///
/// `http` URLs are taken as given, for a source on the same host; over a network they would let
/// anyone in between mint identities.
#[derive(Clone)]
pub enum KeySource {
    /// A JSON Web Key Set in a file.
    File(PathBuf),
    /// A JSON Web Key Set at a URL.
    Url {
        /// Where it is.
        url: Url,
        /// Trusted alone, in PEM; without it the system's CAs are.
        ca_file: Option<PathBuf>,
    },
    /// OpenID discovery: `<issuer>/.well-known/openid-configuration` names the key set.
    Issuer {
        /// The issuer's URL, exactly as in the `iss` of its tokens.
        issuer: String,
        /// Trusted alone, in PEM; without it the system's CAs are.
        ca_file: Option<PathBuf>,
    },
    /// The cluster's API server: its discovery document for the issuer's name, its
    /// `/openid/v1/jwks` for the keys. The `jwks_uri` that it names is for the world outside.
    ApiServer {
        /// The API server's URL.
        url: Url,
        /// The cluster's CA, in PEM; without it the system's CAs are trusted.
        ca_file: Option<PathBuf>,
        /// The agent's own service account token. Kubernetes lets every ServiceAccount read both
        /// documents (`system:service-account-issuer-discovery`).
        token_file: PathBuf,
    },
}

/// A key set as it was found.
pub(super) struct Loaded {
    /// The issuer that the source names, where it names one.
    pub(super) issuer: Option<String>,
    /// Never empty.
    pub(super) keys: Vec<Key>,
}

/// The part of a discovery document (`OpenID` Connect Discovery 1.0, §3) that is used.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

const DISCOVERY: &str = "discovery document";

impl KeySource {
    /// Loads the keys, which must be those of the `configured` issuer where there is one.
    ///
    /// # Errors
    /// [`LoadError`] when nothing usable came.
    pub(super) async fn load(&self, configured: Option<&str>) -> Result<Loaded, LoadError> {
        match self {
            Self::File(path) => {
                let from = path.display().to_string();
                Ok(Loaded {
                    issuer: None,
                    keys: keys(from, &read(path).await?)?,
                })
            }
            Self::Url { url, ca_file } => {
                let fetcher = Fetcher::new(ca_file.as_deref()).await?;
                Ok(Loaded {
                    issuer: None,
                    keys: keys(shown(url), &fetcher.get(url).await?)?,
                })
            }
            Self::Issuer { issuer, ca_file } => {
                let fetcher = Fetcher::new(ca_file.as_deref()).await?;
                let base = parse(issuer)?;
                let url = below(&base, "/.well-known/openid-configuration");
                let discovery: Discovery = fetcher.get_json(&url, DISCOVERY).await?;
                compare(&url, &discovery.issuer, Some(issuer))?;
                let url = parse(&discovery.jwks_uri)?;
                if base.scheme() == "https" && url.scheme() != "https" {
                    return Err(LoadError::Downgrade { url: shown(&url) });
                }
                Ok(Loaded {
                    issuer: Some(discovery.issuer),
                    keys: keys(shown(&url), &fetcher.get(&url).await?)?,
                })
            }
            Self::ApiServer {
                url: base,
                ca_file,
                token_file,
            } => {
                let fetcher = Fetcher::for_api_server(ca_file.as_deref(), token_file).await?;
                let url = below(base, "/.well-known/openid-configuration");
                let discovery: Discovery = fetcher.get_json(&url, DISCOVERY).await?;
                compare(&url, &discovery.issuer, configured)?;
                let url = below(base, "/openid/v1/jwks");
                Ok(Loaded {
                    issuer: Some(discovery.issuer),
                    keys: keys(shown(&url), &fetcher.get(&url).await?)?,
                })
            }
        }
    }
}

/// As [`Display`](fmt::Display): a URL may hold a password.
impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySource({self})")
    }
}

/// As logs name the source.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url { url, .. } | Self::ApiServer { url, .. } => f.write_str(&shown(url)),
            Self::Issuer { issuer, .. } => f.write_str(issuer),
        }
    }
}

fn keys(from: String, text: &[u8]) -> Result<Vec<Key>, LoadError> {
    if text.len() > MAX_BYTES {
        return Err(LoadError::TooLong { from });
    }
    match Key::read_set(text) {
        Ok(keys) if keys.is_empty() => Err(LoadError::NoKey { from }),
        Ok(keys) => Ok(keys),
        Err(error) => Err(LoadError::Unreadable {
            from,
            what: "JSON Web Key Set",
            error,
        }),
    }
}

/// Issuers are compared as text: to the last slash, as `iss` is (`OpenID` Connect Discovery §4.3).
fn compare(from: &Url, found: &str, configured: Option<&str>) -> Result<(), LoadError> {
    match configured {
        Some(configured) if configured != found => Err(LoadError::OtherIssuer {
            from: shown(from),
            found: found.to_owned(),
            configured: configured.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn parse(url: &str) -> Result<Url, LoadError> {
    let failed = |error: String| LoadError::Url {
        url: url.to_owned(),
        error,
    };
    let parsed = Url::parse(url).map_err(|error| failed(error.to_string()))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        other => Err(failed(format!("{other} is neither https nor http"))),
    }
}

/// `path` below the base's own path.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url
}
