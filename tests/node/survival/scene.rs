//! What an event may act on.

use std::time::Duration;

use anyhow::ensure;
use tests::cluster::Cluster;
use tests::wait;
use tokio::time::Instant;

/// How long something is away in a short run.
const BRIEFLY: Duration = Duration::from_secs(10);

/// Where an event happens, and which one it is.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) cluster: &'a Cluster,
    /// A namespace with the ServiceAccount `trainer`.
    pub(super) namespace: &'a str,
    /// Counts up over all events, for names.
    pub(super) number: u32,
}

impl Scene<'_> {
    /// Waits for as long as something is to be away: `full` of a full run, otherwise some seconds.
    pub(super) fn wait_away(full: Duration) -> anyhow::Result<()> {
        let away = if super::full() { full } else { BRIEFLY };
        let started = Instant::now();
        wait::until("the time is over", away + BRIEFLY, || {
            started.elapsed() >= away
        })
    }

    /// Starts a Pod, asks for credentials in it, and ends it.
    pub(super) fn pod_with_credentials(&self) -> anyhow::Result<()> {
        // After an outage of the API server the node counts as lost for some seconds, and the Service of the
        // injector has no endpoint.
        self.cluster.until_injected(self.namespace, "trainer")?;
        let name = format!("event-{}", self.number);
        let pod = self.cluster.idle_pod(self.namespace, &name)?;
        let (status, body) = pod.credentials(None)?;
        ensure!(status == 200, "a new Pod: {status} {body}");
        pod.delete()
    }

    /// The same as an identity that nobody has exchanged yet.
    pub(super) fn first_exchange(&self, prefix: &str) -> anyhow::Result<()> {
        let namespace = self.cluster.workload_namespace(prefix)?;
        let namespace = namespace.as_str();
        Scene { namespace, ..*self }.pod_with_credentials()
    }
}
