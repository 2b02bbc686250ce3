//! The HTTPS client: deadlines, proxies from the environment, and CA certificates that may be
//! rotated without a restart.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, redirect};
use tokio::time::Instant;

use super::settings::{BuildError, Settings};
use shared::causes::causes;

/// How long a CA file is believed to be unchanged. Its content is compared, not its time: kubelet
/// changes mounted files by swapping a symbolic link.
const CA_FILE_CHECK: Duration = Duration::from_secs(30);

/// Builds the HTTPS client, and builds it anew when the CA file has changed.
#[derive(Debug)]
pub(super) struct Connector {
    settings: Arc<Settings>,
    check_every: Duration,
    current: Mutex<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    client: reqwest::Client,
    ca: Option<Arc<[u8]>>,
    checked_at: Instant,
}

impl Connector {
    /// Builds the first client; reads the CA file.
    pub(super) fn new(settings: Arc<Settings>) -> Result<Self, BuildError> {
        let ca = settings.ca_file.as_deref().map(read).transpose()?;
        let current = Current {
            client: build(&settings, ca.as_deref())?,
            ca,
            checked_at: Instant::now(),
        };
        Ok(Self {
            settings,
            check_every: CA_FILE_CHECK,
            current: Mutex::new(current),
        })
    }

    /// The client to use now. A CA file that has gone bad leaves the last good client in use.
    pub(super) async fn client(&self) -> reqwest::Client {
        let now = Instant::now();
        let used = {
            let mut current = self.lock();
            if self.settings.ca_file.is_none() || now - current.checked_at < self.check_every {
                return current.client.clone();
            }
            current.checked_at = now;
            current.clone()
        };
        let (settings, known) = (Arc::clone(&self.settings), used.clone());
        // Reads a file, and the system's CA store with it.
        match tokio::task::spawn_blocking(move || rebuild(&settings, &known)).await {
            Ok(Ok(None)) => used.client,
            Ok(Ok(Some(rebuilt))) => {
                tracing::info!("the CA file has changed and is in use");
                self.lock().clone_from(&rebuilt);
                rebuilt.client
            }
            Ok(Err(error)) => {
                let error = causes(&error);
                tracing::warn!(%error, "the CA file cannot be used; the one before stays in use");
                used.client
            }
            Err(error) => {
                tracing::warn!(%error, "the check of the CA file did not end");
                used.client
            }
        }
    }

    /// Makes the check of the CA file due at each use.
    #[cfg(test)]
    pub(super) fn check_always(&mut self) {
        self.check_every = Duration::ZERO;
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<Arc<[u8]>, BuildError> {
    let content = std::fs::read(path).map_err(|source| BuildError::CaFile {
        path: path.to_owned(),
        source,
    })?;
    Ok(content.into())
}

/// What to use instead of `known`, where the CA file has other content now.
fn rebuild(settings: &Settings, known: &Current) -> Result<Option<Current>, BuildError> {
    let ca = settings.ca_file.as_deref().map(read).transpose()?;
    if known.ca == ca {
        return Ok(None);
    }
    Ok(Some(Current {
        client: build(settings, ca.as_deref())?,
        ca,
        checked_at: known.checked_at,
    }))
}

fn build(settings: &Settings, ca: Option<&[u8]>) -> Result<reqwest::Client, BuildError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("caios-agent/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .tcp_user_timeout(settings.timeout)
        .pool_idle_timeout(Duration::from_mins(1))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(settings.timeout);
    if settings.is_plain_loopback() {
        // No TLS: works without any CA certificate. No proxy could reach this host.
        return builder
            .tls_certs_only([])
            .no_proxy()
            .build()
            .map_err(BuildError::Client);
    }
    builder = builder.https_only(true);
    if let (Some(path), Some(ca)) = (&settings.ca_file, ca) {
        let certificates = Certificate::from_pem_bundle(ca)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| BuildError::NoCertificates(path.clone()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(BuildError::Client)
}
