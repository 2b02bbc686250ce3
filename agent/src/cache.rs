//! Credentials in memory, one set for each identity: fetched once, renewed early, served at once.
//!
//! Start from [`Cache::credentials`]. An unexpired key is always served, whatever the issuer does;
//! a request for which there is none waits until one is there. What expires is decided by two
//! clocks when serving, never by a timer or by the map, which only bounds how many identities
//! there are. Nothing here verifies a token or touches the network.

mod backoff;
mod breaker;
mod budget;
mod clocks;
mod entry;
mod flight;
mod gate;
mod handover;
mod held;
mod hold;
mod line;
mod pace;
mod policy;
mod saved;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
mod tokens;
mod urgency;
mod view;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use moka::policy::EvictionPolicy;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::clocks::Clocks;
use self::entry::{Entry, Found};
use self::gate::Gate;
pub use self::policy::Policy;
pub use self::saved::Saved;
pub use self::view::{FailureView, IdentityView, KeyView, View};
use crate::credentials::Credentials;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::metrics::{Metrics, Outcome};
use crate::workload::{Identity, PodUid, Workload};
use shared::clock::Clock;

/// The credentials of all identities of a node. A cheap clone: all clones are one cache.
pub struct Cache<E: Exchange>(Arc<Shared<E>>);

struct Shared<E> {
    exchange: E,
    policy: Policy,
    clock: Clock,
    metrics: Metrics,
    identities: moka::sync::Cache<Identity, Arc<Entry>>,
    gate: Arc<Gate>,
    places: Semaphore,
    rng: Mutex<Rng>,
    flights: TaskTracker,
    closing: CancellationToken,
    /// Whoever hands the cache on looks again.
    changed: Arc<Notify>,
}

/// Credentials, and how a request came by them.
#[derive(Clone, Debug)]
pub struct Served {
    /// Unexpired when it was looked up.
    pub credentials: Credentials,
    /// [`Hit`](Outcome::Hit), [`Miss`](Outcome::Miss) or [`Coalesced`](Outcome::Coalesced).
    pub outcome: Outcome,
}

impl<E: Exchange> Cache<E> {
    /// Makes an empty cache that gets its credentials from `exchange`.
    ///
    /// Its work stops when [`keep`](Self::keep) ends.
    pub fn new(exchange: E, policy: Policy, clock: Clock, metrics: Metrics) -> Self {
        let mut rng = policy.seed.map_or_else(Rng::new, Rng::with_seed);
        let gate = Arc::new(Gate::new(&policy, &metrics, rng.fork()));
        // The default policy turns newcomers away while others are asked for more often.
        let identities = moka::sync::Cache::builder()
            .max_capacity(policy.max_identities)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(|_, entry: Arc<Entry>, _| entry.retire())
            .build();
        Self(Arc::new(Shared {
            exchange,
            clock,
            metrics,
            identities,
            gate,
            places: Semaphore::new(policy.max_held_requests),
            rng: Mutex::new(rng),
            flights: TaskTracker::new(),
            closing: CancellationToken::new(),
            changed: Arc::default(),
            policy,
        }))
    }

    /// Returns unexpired credentials of the workload's identity.
    ///
    /// Those in memory are returned at once. Otherwise the call waits, up to the hold limit, for
    /// the one exchange that all callers of the identity share. The workload's token is remembered
    /// for renewals.
    ///
    /// # Errors
    /// [`Error::Forbidden`] as soon as the issuer has refused the token or the principal.
    /// [`Error::Unauthenticated`] when the token has ended meanwhile.
    /// [`Error::Unavailable`] when the hold limit has passed, too many requests are held, or the
    /// agent shuts down.
    ///
    /// # Cancel safety
    /// Safe: the exchange goes on and its credentials are kept.
    pub async fn credentials(&self, workload: &Arc<Workload>) -> Result<Served, Error> {
        let shared = &self.0;
        loop {
            let entry = shared.entry(&workload.identity);
            match entry.ask(workload, Instant::now(), shared.clock.now()) {
                Found::Credentials(credentials) => {
                    let outcome = Outcome::Hit;
                    return Ok(Served {
                        credentials,
                        outcome,
                    });
                }
                Found::Refusal(error) => {
                    flight::start(shared, &entry);
                    return Err(error);
                }
                Found::Nothing => {
                    // Seldom, and large: on the heap it makes no other request's future larger.
                    if let Some(result) = Box::pin(shared.hold(&entry, workload)).await {
                        return result;
                    }
                }
                Found::Retired => {}
            }
            shared.remove(&entry);
        }
    }

    /// Forgets a Pod that has ended. With the last Pod of an identity its credentials leave memory
    /// and renewals end.
    pub fn forget(&self, pod: &PodUid) {
        // Pods end seldom and identities are bounded: an index would cost every request more.
        for (_, entry) in &self.0.identities {
            if entry.forget(pod) {
                self.0.remove(&entry);
            }
        }
    }

    /// Sets the gauges that change by themselves: identities with unexpired credentials, and the
    /// seconds until the first of those expire that anybody still has a token for.
    pub fn observe(&self) {
        let (now, wall) = (Instant::now(), self.0.clock.now());
        let mut cached = 0;
        let mut first: Option<Duration> = None;
        for (_, entry) in &self.0.identities {
            if let Some(left) = entry.remaining(now, wall) {
                cached += 1;
                if !entry.has_missed_renewal() {
                    first = Some(first.map_or(left, |first| first.min(left)));
                }
            }
        }
        let metrics = &self.0.metrics;
        metrics.cached_identities.set(cached);
        let seconds = first.map_or(f64::NAN, |first| first.as_secs_f64());
        metrics.seconds_until_first_expiry.set(seconds);
    }

    /// Frees what was dropped, renews what a wall clock that was set forth has made due, and
    /// refreshes the gauges, until `shutdown`; then begins no more exchanges, answers requests that
    /// are held with [`Error::Unavailable`], and returns when the exchanges under way have ended.
    ///
    /// # Cancel safety
    /// Dropped early, it leaves exchanges and renewals running.
    pub async fn keep(&self, shutdown: CancellationToken) {
        let mut ticks = interval(self.0.policy.sweep_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.0.identities.run_pending_tasks();
            let (now, wall) = (Instant::now(), self.0.clock.now());
            for (_, entry) in &self.0.identities {
                entry.wake_if_due(now, wall);
            }
            self.observe();
        }
        self.0.closing.cancel();
        self.0.flights.close();
        self.0.flights.wait().await;
    }
}

impl<E> Shared<E> {
    fn clocks(&self) -> Clocks {
        Clocks {
            now: Instant::now(),
            wall: self.clock.now(),
        }
    }
}

impl<E: Exchange> Shared<E> {
    fn entry(&self, identity: &Identity) -> Arc<Entry> {
        self.identities.get_with_by_ref(identity, || {
            let rng = self
                .rng
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .fork();
            let changed = Arc::clone(&self.changed);
            Arc::new(Entry::new(identity.clone(), &self.policy, rng, changed))
        })
    }

    /// Takes an entry out, but not its successor.
    fn remove(&self, entry: &Arc<Entry>) {
        use moka::ops::compute::Op;
        entry.retire();
        let known = self.identities.entry_by_ref(&entry.identity);
        known.and_compute_with(|known| match known {
            Some(known) if Arc::ptr_eq(known.value(), entry) => Op::Remove,
            _ => Op::Nop,
        });
    }
}

impl<E: Exchange> Clone for Cache<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Exchange> fmt::Debug for Cache<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identities = self.0.identities.entry_count();
        f.debug_struct("Cache")
            .field("identities", &identities)
            .finish_non_exhaustive()
    }
}
