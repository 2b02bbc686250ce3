//! The HTTPS client: deadlines, proxies from the environment, and CA certificates that may be
//! rotated without a restart.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, redirect};
use tokio::time::Instant;

use super::settings::{BuildError, Settings};

/// How long a CA file is believed to be unchanged. Its content is compared, not its time: kubelet
/// changes mounted files by swapping a symbolic link.
const CA_FILE_CHECK: Duration = Duration::from_secs(30);

/// Builds the HTTPS client, and builds it anew when the CA file has changed.
#[derive(Debug)]
pub(super) struct Connector {
    settings: Arc<Settings>,
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
            current: Mutex::new(current),
        })
    }

    /// The client to use now. A CA file that has gone bad leaves the last good client in use.
    pub(super) async fn client(&self) -> reqwest::Client {
        let now = Instant::now();
        let (client, ca) = {
            let mut current = self.lock();
            if self.settings.ca_file.is_none() || now - current.checked_at < CA_FILE_CHECK {
                return current.client.clone();
            }
            current.checked_at = now;
            (current.client.clone(), current.ca.clone())
        };
        let settings = Arc::clone(&self.settings);
        // Reads a file, and the system's CA store with it.
        let rebuilt = tokio::task::spawn_blocking(move || rebuild(&settings, ca.as_deref())).await;
        match rebuilt {
            Ok(Ok(None)) => client,
            Ok(Ok(Some((new, ca)))) => {
                tracing::info!("the CA file has changed and is in use");
                let mut current = self.lock();
                current.client = new.clone();
                current.ca = Some(ca);
                new
            }
            Ok(Err(error)) => {
                let error = super::refusal::chain(&error);
                tracing::warn!(%error, "the CA file cannot be used; the one before stays in use");
                client
            }
            Err(error) => {
                tracing::warn!(%error, "the check of the CA file did not end");
                client
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
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

/// A new client and its CA file's content, where that is not `known`.
fn rebuild(
    settings: &Settings,
    known: Option<&[u8]>,
) -> Result<Option<(reqwest::Client, Arc<[u8]>)>, BuildError> {
    let Some(path) = &settings.ca_file else {
        return Ok(None);
    };
    let ca = read(path)?;
    if known == Some(&*ca) {
        return Ok(None);
    }
    Ok(Some((build(settings, Some(&ca))?, ca)))
}

fn build(settings: &Settings, ca: Option<&[u8]>) -> Result<reqwest::Client, BuildError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("caios-agent/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .tcp_user_timeout(settings.timeout)
        .pool_idle_timeout(Duration::from_secs(60))
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
