//! A certificate that somebody else keeps: cert-manager's, or a given Secret's.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::period::Period;
use super::put_in_service;
use crate::metrics::Metrics;
use crate::tls::{Pair, Slot};

/// How often the files are read. They are compared by content: the kubelet swaps a link, which
/// watches of files miss.
const INTERVAL: Duration = Duration::from_secs(10);

/// Serves the certificate in a directory, the newest one that makes sense.
pub struct Directory {
    path: PathBuf,
    slot: Arc<Slot>,
    metrics: Metrics,
    last: Option<Files>,
}

#[derive(PartialEq)]
struct Files {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Directory {
    /// Serves `tls.crt` and `tls.key` in `path` through `slot`.
    pub const fn new(path: PathBuf, slot: Arc<Slot>, metrics: Metrics) -> Self {
        Self {
            path,
            slot,
            metrics,
            last: None,
        }
    }

    /// Reads the files again and again until `stop`.
    pub async fn keep(mut self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            match self.reload().await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(
                        directory = %self.path.display(),
                        error = format!("{error:#}"),
                        "failed to load the certificate; the last good one is served on"
                    );
                }
                Err(_) => {}
            }
            if stop.run_until_cancelled(sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    /// Serves what the files hold, if that has changed and makes sense.
    pub(super) async fn reload(&mut self) -> anyhow::Result<()> {
        let files = self.read().await?;
        if self.last.as_ref() == Some(&files) {
            return Ok(());
        }
        let pair = Pair::from_pem(&files.chain, &files.key)?;
        let leaf = pair.chain().first().and_then(Period::of);
        let expires = leaf.context("`tls.crt` makes no sense")?.until;
        put_in_service(pair, expires, &self.slot, &self.metrics);
        self.last = Some(files);
        Ok(())
    }

    async fn read(&self) -> anyhow::Result<Files> {
        let file = |name| {
            let path = self.path.join(name);
            async move {
                let read: io::Result<Vec<u8>> = tokio::fs::read(&path).await;
                read.with_context(|| format!("failed to read `{}`", path.display()))
            }
        };
        Ok(Files {
            chain: file("tls.crt").await?,
            key: Zeroizing::new(file("tls.key").await?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use prometheus::Registry;
    use rcgen::generate_simple_self_signed;

    use super::*;

    fn write(directory: &std::path::Path, chain: &str, key: &str) {
        fs::write(directory.join("tls.crt"), chain).unwrap();
        fs::write(directory.join("tls.key"), key).unwrap();
    }

    #[tokio::test]
    async fn the_last_good_pair_is_served_whatever_the_files_become() {
        let files = tempfile::tempdir().unwrap();
        let slot = Arc::new(Slot::default());
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let path = files.path().to_owned();
        let mut directory = Directory::new(path, Arc::clone(&slot), metrics.clone());
        let missing = format!("{:#}", directory.reload().await.unwrap_err());
        assert!(missing.contains("/tls.crt`"), "{missing}");
        assert!(!slot.is_loaded());

        let made = generate_simple_self_signed(["injector.caios.svc".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        write(files.path(), &chain, &key);
        directory.reload().await.unwrap();
        assert!(slot.is_loaded());
        let expiry = metrics.certificate_expiry.get();
        assert!(expiry > 1e9, "{expiry}");

        // Half-way through a change: the new certificate with the old key.
        let other = generate_simple_self_signed(["injector.caios.svc".to_owned()]).unwrap();
        write(files.path(), &other.cert.pem(), &key);
        let mismatch = format!("{:#}", directory.reload().await.unwrap_err());
        assert!(mismatch.contains("does not fit"), "{mismatch}");
        assert!(slot.is_loaded());
        write(
            files.path(),
            &other.cert.pem(),
            &other.signing_key.serialize_pem(),
        );
        directory.reload().await.unwrap();
    }
}
