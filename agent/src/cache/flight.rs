//! The one task of an identity: makes its exchanges, first and renewals, and sleeps in between.
//!
//! It belongs to no request, so nobody's hanging up ends an exchange; and because it is the only
//! one that exchanges for its identity, there is never a second exchange beside it.

use std::sync::Arc;

use futures_util::future::OptionFuture;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::entry::{Entry, Settled, Step};
use super::gate::{Ending, Permit, Turn};
use super::urgency::Urgency;
use crate::credentials::Credentials;
use crate::exchange::{Exchange, ExchangeError};
use crate::metrics::RenewalOutcome;
use crate::workload::{Identity, Workload};

/// Starts the flight of `entry`, unless it has one.
pub(super) fn start<E: Exchange>(shared: &Arc<Shared<E>>, entry: &Arc<Entry>) {
    if entry.claim_flight() {
        let flight = Flight {
            shared: Arc::clone(shared),
            entry: Arc::clone(entry),
        };
        shared.flights.spawn(flight.run());
    }
}

struct Flight<E: Exchange> {
    shared: Arc<Shared<E>>,
    entry: Arc<Entry>,
}

/// A flight that panicked can be started anew: the claim goes with it.
impl<E: Exchange> Drop for Flight<E> {
    fn drop(&mut self) {
        self.entry.release_flight();
    }
}

impl Step {
    /// Whether it is what that turn was taken for.
    fn keeps(&self, turn: &Turn) -> bool {
        match self {
            Self::Exchange {
                urgency: Urgency::Background,
                ends_at,
                ..
            } => ends_at.is_none_or(|ends_at| turn.is_for(ends_at)),
            _ => false,
        }
    }
}

impl<E: Exchange> Flight<E> {
    /// Flies until there is nothing left to do, or the cache closes. An exchange that is under way
    /// then is seen through: a key may have been minted for it.
    async fn run(self) {
        let gate = &self.shared.gate;
        let mut waited_for_breaker = false;
        let mut turn: Option<Turn> = None;
        while !self.shared.closing.is_cancelled() {
            let changed = gate.changed();
            let now = Instant::now();
            let step = self.entry.plan(now, self.shared.clock.now());
            turn = turn.filter(|turn| step.keeps(turn));
            match step {
                Step::Exchange {
                    workload,
                    urgency,
                    is_retry,
                    ends_at,
                } => {
                    if urgency == Urgency::Background && turn.is_none() {
                        turn = Some(gate.line_up(ends_at.unwrap_or(now)));
                    }
                    match gate.admit(turn.as_ref(), is_retry || waited_for_breaker, now) {
                        Ok(permit) => {
                            (turn, waited_for_breaker) = (None, false);
                            self.exchange(&workload, permit).await;
                        }
                        Err(blocked) => {
                            waited_for_breaker |= blocked.by_breaker;
                            let turn = turn.as_ref().filter(|_| blocked.in_line);
                            tokio::select! {
                                () = self.sleep(blocked.until) => {}
                                () = changed, if turn.is_none() => {}
                                Some(()) = OptionFuture::from(turn.map(Turn::come)) => {}
                            }
                        }
                    }
                }
                Step::Sleep(until) => self.sleep(until).await,
                Step::MissRenewal(until) => {
                    self.shared
                        .metrics
                        .renewals
                        .of(RenewalOutcome::NoToken)
                        .inc();
                    tracing::warn!(
                        principal = self.entry.identity.principal(),
                        "no Pod has a valid service account token left: not renewing"
                    );
                    self.sleep(Some(until)).await;
                }
                Step::End => {
                    self.shared.remove(&self.entry);
                    return;
                }
            }
        }
    }

    /// Ends at `until`, when there is something new to plan for, or when the cache closes.
    async fn sleep(&self, until: Option<Instant>) {
        let timer = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = timer => {}
            () = self.entry.woken() => {}
            () = self.shared.closing.cancelled() => {}
        }
    }

    async fn exchange(&self, workload: &Arc<Workload>, permit: Permit) {
        let shared = &self.shared;
        self.entry.begin();
        let started = Instant::now();
        let result = call(shared, workload).await;
        let times = (Instant::now(), shared.clock.now());
        let (settled, result) = self
            .entry
            .settle(workload, result, started, times, &shared.policy);
        permit.settle(match &result {
            Ok(_) | Err(ExchangeError::Refused { .. }) => Ending::Answered,
            Err(ExchangeError::Throttled { .. }) => {
                let until = self.entry.not_before(Urgency::Background);
                Ending::Throttled(until.unwrap_or(started))
            }
            Err(ExchangeError::Unavailable { .. } | ExchangeError::Uncertain { .. }) => {
                Ending::Failed
            }
        });
        match settled {
            Settled::Renewed => shared.metrics.renewals.of(RenewalOutcome::Renewed).inc(),
            Settled::Failed {
                keeps_credentials: true,
            } => shared.metrics.renewals.of(RenewalOutcome::Kept).inc(),
            Settled::First | Settled::Failed { .. } => {}
        }
        report(&self.entry.identity, &settled, &result, times.0 - started);
    }
}

/// Exchanges in a task of its own, so that a panic in there is an error here.
async fn call<E: Exchange>(
    shared: &Arc<Shared<E>>,
    workload: &Arc<Workload>,
) -> Result<Credentials, ExchangeError> {
    let (exchanger, workload) = (Arc::clone(shared), Arc::clone(workload));
    let mut task = JoinSet::new();
    task.spawn(async move {
        let exchange = &exchanger.exchange;
        exchange.exchange(&workload.identity, &workload.token).await
    });
    match task.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(_)) | None => Err(ExchangeError::Uncertain {
            message: "the exchange ended without a result; the agent's log has the reason"
                .to_owned(),
        }),
    }
}

fn report(
    identity: &Identity,
    settled: &Settled,
    result: &Result<Credentials, ExchangeError>,
    elapsed: std::time::Duration,
) {
    let principal = identity.principal();
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let outcome = match settled {
        Settled::First => "first",
        Settled::Renewed => "renewed",
        Settled::Failed {
            keeps_credentials: true,
        } => "kept",
        Settled::Failed { .. } => "failed",
    };
    match result {
        Ok(credentials) => tracing::info!(
            principal,
            outcome,
            access_key_id = credentials.access_key_id(),
            expires_at = %credentials.expires_at(),
            elapsed_ms,
            "exchanged"
        ),
        Err(error) => tracing::warn!(principal, outcome, elapsed_ms, %error, "exchange failed"),
    }
}
