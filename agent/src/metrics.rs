//! Every metric of the agent, in one struct that is passed to whoever counts.
//!
//! Label values come from the enums in `labels.rs` alone: nothing that a Pod sends can make a new
//! series, and every series exists from the start with the value 0.

mod exchange;
mod labels;
mod watch;

use prometheus::{Gauge, Histogram, IntCounter, IntGauge, Registry};
use shared::metrics::{Counters, Factory, Gauges, Histograms};
use shared::serve;

pub use exchange::ExchangeCounters;
pub use labels::{
    AcceptLimit, ClockJump, Delivery, EnrolmentOutcome, EventOutcome, ExchangeOutcome, JwksOutcome,
    ListenerEnd, Method, Outcome, PublishOutcome, RenewalOutcome, TokenOutcome,
};
pub use watch::WatchMetrics;

/// Memory hits take some 10 µs; a held request up to the hold limit of some seconds.
const REQUEST_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// CoreWeave's API answers in about 0.1 s; the deadline is some seconds.
const EXCHANGE_BUCKETS: &[f64] = &[0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0];
/// Taking a descriptor takes a millisecond; the first exchange may be waited for up to 2 s.
const ENROLMENT_BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// The agent's metrics. A cheap clone: all clones count into the same series.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Credential requests by what became of them.
    pub requests: Counters<Outcome>,
    /// Seconds from a parsed request head to its answer.
    pub request_duration: Histograms<Outcome>,
    /// Requests that are held open for a first exchange.
    pub held_requests: IntGauge,
    /// Calls to CoreWeave's API.
    pub exchange_requests: ExchangeCounters,
    /// Seconds that a call to CoreWeave's API took.
    pub exchange_duration: Histograms<Method>,
    /// Exchanges that are under way.
    pub exchanges_in_flight: IntGauge,
    /// 1 while the circuit breaker keeps calls from CoreWeave's API.
    pub exchange_breaker_open: IntGauge,
    /// Identities whose exchanges fell back to GET: 15-minute keys.
    pub short_lived_identities: IntGauge,
    /// Identities with unexpired credentials in memory.
    pub cached_identities: IntGauge,
    /// Seconds until the first credentials in memory expire; how long the node can do without
    /// CoreWeave. NaN while there are none.
    pub seconds_until_first_expiry: Gauge,
    /// Background renewals that ended.
    pub renewals: Counters<RenewalOutcome>,
    /// Service account tokens that were checked; remembered results count too.
    pub tokens_verified: Counters<TokenOutcome>,
    /// Verified tokens that are in memory, to be checked no more.
    pub remembered_tokens: IntGauge,
    /// Loads of the issuer's key set.
    pub jwks_refreshes: Counters<JwksOutcome>,
    /// Times that the node's wall clock was set.
    pub clock_jumps: Counters<ClockJump>,
    /// Listeners that are served; the IPv4 and IPv6 sockets of one Pod are one.
    pub listeners: Gauges<Delivery>,
    /// Listeners that were taken over from the keeper.
    pub listeners_adopted: IntCounter,
    /// Requests that an agent before this one had begun to answer when it died.
    pub requests_taken_over: IntCounter,
    /// Identities whose credentials the keeper holds for the next agent.
    pub kept_identities: IntGauge,
    /// 1 while the keeper is connected; always 0 without one.
    pub keeper_connected: IntGauge,
    /// Enrolments that ended.
    pub enrolments: Counters<EnrolmentOutcome>,
    /// Seconds from an enrolment's message to its answer.
    pub enrolment_duration: Histogram,
    /// CSI volumes that are served.
    pub csi_volumes: IntGauge,
    /// CSI volumes that were to be published.
    pub csi_publishes: Counters<PublishOutcome>,
    /// What the watch of Pods counts.
    pub watch: WatchMetrics,
    /// Open connections of workloads.
    pub connections: IntGauge,
    /// How often a listener had to stop accepting because a limit was reached.
    pub accept_pauses: Counters<AcceptLimit>,
    /// Failed `accept` calls.
    pub accept_errors: IntCounter,
    /// Log lines held back by a rate limit.
    pub suppressed_log_lines: IntCounter,
    /// Panics that were caught.
    pub panics: IntCounter,
    /// Workers that crashed before this one in its container.
    pub worker_restarts: IntCounter,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// [`prometheus::Error`] when `registry` has a metric of one of these names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let make = Factory::new("caios_agent", registry);
        make.build_info(env!("CARGO_PKG_VERSION"))?;
        Ok(Self {
            requests: make.counters("requests_total", "Credential requests.")?,
            request_duration: make.histograms(
                "request_duration_seconds",
                "Seconds from a request's head to its answer.",
                REQUEST_BUCKETS,
            )?,
            held_requests: make.gauge("held_requests", "Requests held for a first exchange.")?,
            exchange_requests: ExchangeCounters::new(
                &make,
                "exchange_requests_total",
                "Calls to CoreWeave's API.",
            )?,
            exchange_duration: make.histograms(
                "exchange_duration_seconds",
                "Seconds that a call to CoreWeave's API took.",
                EXCHANGE_BUCKETS,
            )?,
            exchanges_in_flight: make
                .gauge("exchanges_in_flight", "Exchanges that are under way.")?,
            exchange_breaker_open: make.gauge(
                "exchange_breaker_open",
                "1 while the circuit breaker keeps calls from CoreWeave's API.",
            )?,
            short_lived_identities: make.gauge(
                "short_lived_identities",
                "Identities that fell back to GET and so to 15-minute keys.",
            )?,
            cached_identities: make.gauge(
                "cached_identities",
                "Identities with unexpired credentials in memory.",
            )?,
            seconds_until_first_expiry: make.unknown(
                "seconds_until_first_expiry",
                "Seconds until the first credentials in memory expire.",
            )?,
            renewals: make.counters("renewals_total", "Background renewals that ended.")?,
            tokens_verified: make.counters(
                "tokens_verified_total",
                "Service account tokens that were checked.",
            )?,
            remembered_tokens: make.gauge(
                "remembered_tokens",
                "Verified service account tokens in memory.",
            )?,
            jwks_refreshes: make
                .counters("jwks_refreshes_total", "Loads of the issuer's key set.")?,
            clock_jumps: make.counters(
                "clock_jumps_total",
                "Times that the node's wall clock was set by 5 s or more.",
            )?,
            listeners: make.gauges("listeners", "Listeners that are served.")?,
            listeners_adopted: make.counter(
                "listeners_adopted_total",
                "Listeners that were taken over from the keeper.",
            )?,
            requests_taken_over: make.counter(
                "requests_taken_over_total",
                "Requests that an agent before this one had begun to answer when it died.",
            )?,
            kept_identities: make.gauge(
                "kept_identities",
                "Identities whose credentials the keeper holds.",
            )?,
            keeper_connected: make.gauge("keeper_connected", "1 while the keeper is connected.")?,
            enrolments: make.counters("enrollments_total", "Enrolments that ended.")?,
            enrolment_duration: make.histogram(
                "enrollment_duration_seconds",
                "Seconds from an enrolment's message to its answer.",
                ENROLMENT_BUCKETS,
            )?,
            csi_volumes: make.gauge("csi_volumes", "CSI volumes that are served.")?,
            csi_publishes: make.counters(
                "csi_publishes_total",
                "CSI volumes that were to be published.",
            )?,
            watch: WatchMetrics::new(&make)?,
            connections: make.gauge("connections", "Open connections of workloads.")?,
            accept_pauses: make.counters(
                "accept_pauses_total",
                "Pauses of a listener at a connection limit.",
            )?,
            accept_errors: make.counter("accept_errors_total", "Failed accept calls.")?,
            suppressed_log_lines: make.counter(
                "suppressed_log_lines_total",
                "Log lines held back by a rate limit.",
            )?,
            panics: make.counter("panics_total", "Panics that were caught.")?,
            worker_restarts: make.counter(
                "worker_restarts_total",
                "Workers that crashed before this one in its container.",
            )?,
        })
    }

    /// What servers of workloads count into.
    pub fn serving(&self) -> serve::Counters {
        serve::Counters {
            connections: self.connections.clone(),
            listener_pauses: self.accept_pauses.of(AcceptLimit::Listener).clone(),
            total_pauses: self.accept_pauses.of(AcceptLimit::Total).clone(),
            accept_errors: self.accept_errors.clone(),
            suppressed_log_lines: self.suppressed_log_lines.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.requests.of(Outcome::Coalesced).inc();
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "caios_agent_requests_total{outcome=\"coalesced\"} 1",
            "caios_agent_requests_total{outcome=\"hit\"} 0",
            "caios_agent_exchange_requests_total{method=\"get\",outcome=\"uncertain\"} 0",
            "caios_agent_listeners{delivery=\"handoff\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
