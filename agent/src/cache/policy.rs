//! The numbers that the cache works by.

use std::time::Duration;

/// Bounds and times of a [`Cache`](super::Cache). [`Default`] is what production runs.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long a request without credentials is held before it gets a 503. More than 1.2 s longer
    /// than the exchange's deadline: a call that hung is tried once more within it.
    pub hold_limit: Duration,
    /// Renewals leave at least this much life where the lifetime is half as long again.
    pub min_remaining: Duration,
    /// Identities in memory; beyond it the least recently used one goes.
    pub max_identities: u64,
    /// Pods whose token is kept for one identity.
    pub max_pods_per_identity: usize,
    /// Requests held at once on this node; one more is answered 503 at once.
    pub max_held_requests: usize,
    /// Exchanges in flight at once on this node. A quarter of them is for held requests alone.
    pub max_exchanges: usize,
    /// How long a refusal answers further cold requests.
    pub refusal_memory: Duration,
    /// Retries, of all identities together, that may start at once.
    pub retry_burst: u32,
    /// Retries, of all identities together, that may start per second in the long run.
    pub retries_per_second: u32,
    /// Transient failures in a row that open the circuit breaker.
    pub breaker_threshold: u32,
    /// From one probe of an open breaker to the next while a request is held.
    pub probe_interval_held: Duration,
    /// From one probe of an open breaker to the next while no request is held, up to a fifth longer by
    /// jitter; a quarter of the time that it has been open, where that is more.
    pub probe_interval_background: Duration,
    /// What that grows to.
    pub longest_probe_interval: Duration,
    /// From one sweep of freed memory and one refresh of the gauges to the next.
    pub sweep_interval: Duration,
    /// Makes all jitter repeatable; [`None`] takes a seed from the system.
    pub seed: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            hold_limit: Duration::from_secs(8),
            min_remaining: Duration::from_mins(20),
            max_identities: 1024,
            max_pods_per_identity: 512,
            max_held_requests: 4096,
            max_exchanges: 16,
            refusal_memory: Duration::from_secs(5),
            retry_burst: 8,
            retries_per_second: 16,
            breaker_threshold: 5,
            probe_interval_held: Duration::from_secs(1),
            probe_interval_background: Duration::from_secs(15),
            longest_probe_interval: Duration::from_mins(5),
            sweep_interval: Duration::from_secs(30),
            seed: None,
        }
    }
}
