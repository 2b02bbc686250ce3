//! The cluster's API: the client, and what every use of it shares.

use std::time::Duration;

use anyhow::Context as _;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
pub use shared::api::{is_answer, is_conflict, reason, watch_reason, watched, written};

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
