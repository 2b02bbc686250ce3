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

/// A client, and the CA file that it trusts.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) client: reqwest::Client,
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
    pub(super) async fn client(&self) -> Current {
        let current = self.lock().clone();
        if self.settings.ca_file.is_none() || current.checked_at.elapsed() < self.check_every {
            return current;
        }
        self.check(current).await;
        self.lock().clone()
    }

    /// Another client, where the CA file has changed since `used` was built: for a call that found no
    /// connection. The certificate of whoever answers may be of a CA that is in the file by now.
    pub(super) async fn instead_of(&self, used: &Current) -> Option<Current> {
        self.settings.ca_file.as_ref()?;
        let current = self.lock().clone();
        self.check(current).await;
        let current = self.lock().clone();
        (current.ca != used.ca).then_some(current)
    }

    /// Compares the CA file with that of `known`, and builds a client where it has changed.
    async fn check(&self, known: Current) {
        self.lock().checked_at = Instant::now();
        let settings = Arc::clone(&self.settings);
        // Reads a file, and the system's CA store with it.
        match tokio::task::spawn_blocking(move || rebuild(&settings, &known)).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(rebuilt))) => {
                tracing::info!("the CA file has changed and is in use");
                *self.lock() = rebuilt;
            }
            Ok(Err(error)) => {
                let error = causes(&error);
                tracing::warn!(%error, "the CA file cannot be used; the one before stays in use");
            }
            Err(error) => tracing::warn!(%error, "the check of the CA file did not end"),
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
        checked_at: Instant::now(),
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
