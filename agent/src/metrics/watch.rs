//! What the watch of Pods counts.

use prometheus::{IntCounter, IntGauge};
use shared::metrics::{Counters, Factory};

use super::labels::{EventOutcome, ListenerEnd};

/// The metrics of Pods and of their watch.
#[derive(Clone, Debug)]
pub struct WatchMetrics {
    /// Pods of the node that the API server has shown.
    pub pods: IntGauge,
    /// Injected Pods that run and have no listener.
    pub without_listener: IntGauge,
    /// Pods that are to be injected and are not.
    pub without_injection: IntGauge,
    /// Failures of the watch.
    pub failures: IntCounter,
    /// Listeners of Pods that were ended, and why.
    pub ended: Counters<ListenerEnd>,
    /// Events that were sent to the API server.
    pub events: Counters<EventOutcome>,
}

impl WatchMetrics {
    pub(super) fn new(make: &Factory<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            pods: make.gauge(
                "watched_pods",
                "Pods of this node that the API server has shown.",
            )?,
            without_listener: make.gauge(
                "pods_without_listener",
                "Injected Pods that run and have no listener.",
            )?,
            without_injection: make.gauge(
                "pods_without_injection",
                "Pods that ask for credentials and were not injected.",
            )?,
            failures: make.counter("pod_watch_failures_total", "Failures of the watch of Pods.")?,
            ended: make.counters(
                "listeners_ended_total",
                "Listeners of Pods that were ended.",
            )?,
            events: make.counters(
                "pod_events_total",
                "Events that were sent to the API server.",
            )?,
        })
    }
}
