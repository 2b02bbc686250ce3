//! Every metric of the injector, in one struct that is passed to whoever counts.
//!
//! Label values come from enums alone: nothing that a review brings can make a new series, and
//! every series exists from the start with the value 0.

use prometheus::{Gauge, Histogram, IntCounter, IntGauge, Registry};
use shared::label;
use shared::metrics::{Counters, Factory, Label};

use crate::mutate::Decision;

/// A decision takes some 50 µs, a question to the API some milliseconds; the deadline is seconds.
const REVIEW_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5,
    5.0,
];

/// What became of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Decided(Decision),
    /// The ServiceAccount or the namespace could not be read in time; answered all the same, so
    /// that an optional Pod starts and a required one is refused with a message.
    Unreadable,
    /// 400, 404 or 405.
    Malformed,
    /// 413.
    TooLarge,
    /// 503: too many at once.
    Busy,
    /// 504: its body did not come in time.
    TimedOut,
}

impl Label for Outcome {
    const NAME: &'static str = "decision";
    const ALL: &'static [Self] = &[
        Self::Decided(Decision::Injected),
        Self::Decided(Decision::Unchanged),
        Self::Decided(Decision::NotAsked),
        Self::Decided(Decision::OptedOut),
        Self::Decided(Decision::Skipped),
        Self::Decided(Decision::Refused),
        Self::Unreadable,
        Self::Malformed,
        Self::TooLarge,
        Self::Busy,
        Self::TimedOut,
    ];

    fn index(self) -> usize {
        match self {
            Self::Decided(decision) => decision as usize,
            Self::Unreadable => Decision::ALL.len(),
            Self::Malformed => Decision::ALL.len() + 1,
            Self::TooLarge => Decision::ALL.len() + 2,
            Self::Busy => Decision::ALL.len() + 3,
            Self::TimedOut => Decision::ALL.len() + 4,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Decided(decision) => decision.label(),
            Self::Unreadable => "unreadable",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::TimedOut => "timed_out",
        }
    }
}

label! {
    /// Where the annotations of a ServiceAccount came from.
    pub Source = "source" {
        /// From memory.
        Cache => "cache",
        /// From the API, because memory had none or only a doubtful answer.
        Api => "api",
        /// From memory, because the API did not confirm a doubtful answer in time.
        Unconfirmed => "unconfirmed",
        /// From nowhere.
        Failed => "failed",
    }
}

/// The injector's metrics. A cheap clone: all clones count into the same series.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Reviews by what became of them.
    pub reviews: Counters<Outcome>,
    /// Seconds from a review's head to its answer.
    pub review_duration: Histogram,
    /// ServiceAccounts that reviews asked for.
    pub service_account_lookups: Counters<Source>,
    /// ServiceAccounts in memory.
    pub service_accounts: IntGauge,
    /// When the certificate that is served expires, in seconds since 1970. NaN while there is
    /// none.
    pub certificate_expiry: Gauge,
    /// How often `caBundle` was put right.
    pub ca_bundle_repairs: IntCounter,
    /// Open connections.
    pub connections: IntGauge,
    /// How often accepting stopped because the limit of connections was reached.
    pub accept_pauses: IntCounter,
    /// Failed `accept` calls.
    pub accept_errors: IntCounter,
    /// TLS handshakes that failed.
    pub handshake_failures: IntCounter,
    /// Log lines held back by a rate limit.
    pub suppressed_log_lines: IntCounter,
    /// Panics that were caught.
    pub panics: IntCounter,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// [`prometheus::Error`] when `registry` has a metric of one of these names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let make = Factory::new("caios_injector", registry);
        make.build_info(env!("CARGO_PKG_VERSION"))?;
        Ok(Self {
            reviews: make.counters("reviews_total", "Reviews of Pods.")?,
            review_duration: make.histogram(
                "review_duration_seconds",
                "Seconds from a review's head to its answer.",
                REVIEW_BUCKETS,
            )?,
            service_account_lookups: make.counters(
                "serviceaccount_lookups_total",
                "ServiceAccounts that reviews asked for.",
            )?,
            service_accounts: make.gauge("serviceaccounts", "ServiceAccounts in memory.")?,
            certificate_expiry: make.unknown(
                "certificate_expiry_timestamp_seconds",
                "When the certificate that is served expires.",
            )?,
            ca_bundle_repairs: make.counter(
                "ca_bundle_repairs_total",
                "How often the caBundle of the webhooks was put right.",
            )?,
            connections: make.gauge("connections", "Open connections.")?,
            accept_pauses: make.counter(
                "accept_pauses_total",
                "Pauses of the listener at its connection limit.",
            )?,
            accept_errors: make.counter("accept_errors_total", "Failed accept calls.")?,
            handshake_failures: make
                .counter("handshake_failures_total", "TLS handshakes that failed.")?,
            suppressed_log_lines: make.counter(
                "suppressed_log_lines_total",
                "Log lines held back by a rate limit.",
            )?,
            panics: make.counter("panics_total", "Panics that were caught.")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_counts_for_itself() {
        for (index, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), index, "{outcome:?}");
        }
    }

    #[test]
    fn every_series_is_there_from_the_start() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.service_account_lookups.of(Source::Api).inc();
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let reviews = "caios_injector_reviews_total{decision=";
        assert_eq!(text.matches(reviews).count(), Decision::ALL.len() + 5);
        for line in [
            "caios_injector_serviceaccount_lookups_total{source=\"api\"} 1",
            "caios_injector_certificate_expiry_timestamp_seconds NaN",
            "caios_injector_reviews_total{decision=\"not_asked\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
