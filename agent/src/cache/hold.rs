//! A request that is held open until its identity has credentials.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::{Instant, timeout_at};

use super::entry::{Entry, Found};
use super::urgency::Urgency;
use super::{Served, Shared, flight};
use crate::error::Error;
use crate::exchange::Exchange;
use crate::workload::Workload;

impl<E: Exchange> Shared<E> {
    /// Holds a request until there is an answer. [`None`] when the entry has left the cache before
    /// the wait began: its successor is the one to ask.
    pub(super) async fn hold(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        workload: &Workload,
    ) -> Option<Result<Served, Error>> {
        // Even for a request that cannot wait: the flight also takes the entry out in the end.
        flight::start(self, entry);
        let Ok(_place) = self.places.try_acquire() else {
            let reason = "too many requests wait for credentials";
            return Some(Err(unavailable(entry, reason)));
        };
        let waiting = entry.join()?;
        let _held = Counted::new(&self.metrics.held_requests);
        let end = Instant::now() + self.policy.hold_limit;
        loop {
            let settled = entry.settled();
            match entry.look(workload, Instant::now(), self.clock.now()) {
                Found::Credentials(credentials) => {
                    let outcome = waiting.outcome;
                    return Some(Ok(Served {
                        credentials,
                        outcome,
                    }));
                }
                Found::Refusal(error) => return Some(Err(error)),
                Found::Nothing | Found::Retired => {}
            }
            let settled = self.closing.run_until_cancelled(settled);
            match timeout_at(end, settled).await {
                Ok(Some(())) => {}
                Ok(None) => return Some(Err(unavailable(entry, "the agent shuts down"))),
                Err(_) => {
                    let limit = self.policy.hold_limit.as_secs_f32();
                    let reason = format!("no credentials within {limit} s");
                    return Some(Err(unavailable(entry, &reason)));
                }
            }
        }
    }
}

fn unavailable(entry: &Entry, reason: &str) -> Error {
    let last = entry.last_failure();
    let last = last.as_deref().unwrap_or("no exchange has ended yet");
    let now = Instant::now();
    let next = entry.not_before(Urgency::Held).unwrap_or(now);
    Error::Unavailable {
        reason: format!("{reason} for `{}`: {last}", entry.identity.principal()),
        retry_after: next
            .saturating_duration_since(now)
            .max(Duration::from_secs(1)),
    }
}

/// One more in a gauge, until dropped.
struct Counted<'a>(&'a IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
