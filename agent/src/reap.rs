//! Ends the listeners of Pods whose network interfaces are gone.
//!
//! A listener keeps its Pod's network namespace alive (some 200 kB) after the Pod has ended, so
//! somebody has to notice. When the network plugin removes a Pod, its interfaces leave the
//! namespace, which shows through the listener itself. This needs no privilege and no Kubernetes
//! API.
//!
//! What shows is `eth0`, as container runtimes call a Pod's interface, and any interface with an
//! IPv4 address. A Pod that had neither when it enrolled is never taken for gone here: its listener
//! lives until the Pod enrols from a new sandbox, the agent ends, or [`watch`](crate::watch) has missed
//! the Pod for long enough.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::enrolment::Registry;
use crate::workload::PodUid;

/// How often the Pods are looked at, by default.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// Looks at every enrolled Pod each `interval`, until `shutdown`. The listeners of a Pod that is
/// gone end, and then `gone` is told.
pub async fn run(
    registry: &Registry,
    interval: Duration,
    gone: impl Fn(&PodUid),
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        for (pod, witness) in registry.witnesses() {
            if witness.is_gone() && registry.remove_witnessed(&pod, &witness) {
                tracing::info!(pod_uid = %pod, "a Pod's interfaces are gone; its listeners end");
                gone(&pod);
            }
        }
    }
}
