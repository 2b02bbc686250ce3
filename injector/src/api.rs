//! The cluster's API: the client, and its errors in words that hold no object.

use std::time::Duration;

use anyhow::Context as _;
use kube::config::KubeConfigOptions;
use kube::runtime::watcher;
use kube::{Client, Config};
use shared::causes::causes;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Makes a client for the cluster that the process runs in, or else for the one that `KUBECONFIG`
/// names. Does not connect yet.
///
/// # Errors
/// When neither is to be had.
pub async fn client() -> anyhow::Result<Client> {
    let mut config = match Config::incluster() {
        Ok(config) => config,
        Err(_) => Config::from_kubeconfig(&KubeConfigOptions::default())
            .await
            .context(
                "failed to find the cluster: run in a Pod with a service account token, or set \
                 KUBECONFIG",
            )?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).context("failed to build the API client")
}

/// What went wrong, with the API server's own words where it has said some.
pub fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} (HTTP {})", status.message, status.code),
        error => causes(error),
    }
}

/// What went wrong in a watch.
pub fn watch_reason(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => reason(error),
        watcher::Error::WatchError(status) => format!("{} (HTTP {})", status.message, status.code),
        error @ watcher::Error::NoResourceVersion => causes(error),
    }
}

/// Whether the API server has refused a patch because the object is not as it was read.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether the API server itself has said no; not so when the question or its answer got lost.
pub const fn is_answer(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(_))
}
