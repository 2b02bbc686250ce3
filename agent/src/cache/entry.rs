//! One identity: its state behind one short lock, and whom to tell when it changes.
//!
//! [`state`] decides, [`flight`](super::flight) carries it out.

mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use self::state::{FlightState, State};
pub(super) use self::state::{Found, Settled, Step};
use super::backoff::Backoff;
use super::clocks::Clocks;
use super::handover::{Current, CurrentCredentials};
use super::policy::Policy;
use super::saved::SavedFailures;
use super::urgency::Urgency;
use super::view::IdentityView;
use crate::credentials::Credentials;
use crate::exchange::ExchangeError;
use crate::metrics::Outcome;
use crate::workload::{Identity, PodUid, Workload};

/// One identity of the cache.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) identity: Identity,
    state: Mutex<State>,
    /// Waiting requests look again.
    settled: Notify,
    /// The flight looks again.
    wake: Notify,
    /// Whoever hands the cache on looks again.
    changed: Arc<Notify>,
}

impl Entry {
    pub(super) fn new(identity: Identity, policy: &Policy, rng: Rng, changed: Arc<Notify>) -> Self {
        Self {
            identity,
            state: Mutex::new(State::new(policy, rng)),
            settled: Notify::new(),
            wake: Notify::new(),
            changed,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when waiting requests should look again. To be made before they look.
    pub(super) fn settled(&self) -> Notified<'_> {
        self.settled.notified()
    }

    /// Ends when the flight should plan again.
    pub(super) fn woken(&self) -> Notified<'_> {
        self.wake.notified()
    }

    /// Remembers the request's token and looks for an answer.
    pub(super) fn ask(&self, workload: &Arc<Workload>, now: Instant, wall: Timestamp) -> Found {
        let mut state = self.state();
        if state.is_retired {
            return Found::Retired;
        }
        if state.tokens.remember(workload) {
            self.wake.notify_one();
            self.changed.notify_one();
        }
        state.find(workload, now, wall)
    }

    /// Looks for an answer for a request that waits.
    pub(super) fn look(&self, workload: &Workload, now: Instant, wall: Timestamp) -> Found {
        self.state().find(workload, now, wall)
    }

    /// Takes in a request that waits; it leaves when the guard is dropped. [`None`] when the entry
    /// is out of the cache since the request [asked](Self::ask): its flight may have ended, and
    /// nobody would answer.
    pub(super) fn join(&self) -> Option<Waiting<'_>> {
        let mut state = self.state();
        if state.is_retired {
            return None;
        }
        let is_first = state.waiting == 0 && state.flight != FlightState::Exchanging;
        state.waiting += 1;
        state.is_wanted = true;
        self.wake.notify_one();
        let outcome = if is_first {
            Outcome::Miss
        } else {
            Outcome::Coalesced
        };
        Some(Waiting {
            entry: self,
            outcome,
        })
    }

    /// Claims the one flight of this entry, unless there is one.
    pub(super) fn claim_flight(&self) -> bool {
        let mut state = self.state();
        let is_absent = state.flight == FlightState::Absent;
        if is_absent {
            state.flight = FlightState::Between;
        }
        is_absent
    }

    /// The flight has ended, by its plan or by a panic.
    pub(super) fn release_flight(&self) {
        self.state().flight = FlightState::Absent;
    }

    /// Decides what the flight does now. The one place where an exchange is begun.
    pub(super) fn plan(&self, now: Instant, wall: Timestamp) -> Step {
        self.state().plan(now, wall)
    }

    /// The exchange that was planned has started.
    pub(super) fn begin(&self) {
        self.state().flight = FlightState::Exchanging;
    }

    /// Takes in how an exchange of `workload`'s token, `started` then, ended, and tells those who
    /// wait. Gives the result back; credentials that arrived expired have become a failure.
    pub(super) fn settle(
        &self,
        workload: &Workload,
        result: Result<Credentials, ExchangeError>,
        started: Instant,
        (now, wall): (Instant, Timestamp),
        policy: &Policy,
    ) -> (Settled, Result<Credentials, ExchangeError>) {
        let mut state = self.state();
        let ended = state.settle(workload, result, started, (now, wall), policy);
        drop(state);
        self.settled.notify_waiters();
        self.changed.notify_one();
        ended
    }

    /// When the next exchange may start, if the last one failed.
    pub(super) fn not_before(&self, urgency: Urgency) -> Option<Instant> {
        self.state().backoff.not_before(urgency)
    }

    /// What the last exchange failed with, for a request that waited in vain.
    pub(super) fn last_failure(&self) -> Option<String> {
        let state = self.state();
        Some(state.last_failure.as_ref()?.message.clone())
    }

    /// What a person may see.
    pub(super) fn view(&self, moment: Clocks) -> IdentityView {
        self.state().view(&self.identity, moment)
    }

    /// Forgets a Pod, and says whether the identity has none left because of that.
    pub(super) fn forget(&self, pod: &PodUid) -> bool {
        let mut state = self.state();
        let was_known = state.tokens.forget(pod);
        if was_known {
            self.changed.notify_one();
        }
        was_known && state.tokens.is_empty()
    }

    /// What the next agent is to know; `None` when that is nothing.
    pub(super) fn current(&self, clocks: Clocks) -> Option<Current> {
        let state = self.state();
        let held = state.held.as_ref();
        let held = held.filter(|held| !held.is_expired(clocks.now, clocks.wall));
        if state.is_retired || (held.is_none() && state.tokens.is_empty()) {
            return None;
        }
        Some(Current {
            identity: self.identity.clone(),
            held: held.map(|held| CurrentCredentials {
                credentials: held.credentials.clone(),
                ends_at: clocks.wall_at(clocks.now + held.remaining(clocks.now, clocks.wall)),
                renew_at: clocks.wall_at(held.renew_at()),
            }),
            tokens: state.tokens.all().map(Arc::clone).collect(),
            failures: state.backoff.save(clocks),
        })
    }

    /// Takes over what another agent had, where it is better than what is here.
    pub(super) fn restore(
        &self,
        credentials: Option<CurrentCredentials>,
        tokens: &[Arc<Workload>],
        failures: Option<SavedFailures>,
        clocks: Clocks,
    ) {
        let mut state = self.state();
        for workload in tokens {
            state.tokens.remember(workload);
        }
        if let Some(failures) = failures {
            state.backoff = Backoff::restore(failures, clocks);
        }
        if let Some(credentials) = credentials {
            state.take_over(credentials, clocks);
        }
        drop(state);
        self.settled.notify_waiters();
        self.wake.notify_one();
    }

    /// Wakes the flight where a renewal is due. The flight sleeps by the monotonic clock alone, so
    /// a wall clock that was set forth would go unnoticed until the credentials end.
    pub(super) fn wake_if_due(&self, now: Instant, wall: Timestamp) {
        let state = self.state();
        if state
            .held
            .as_ref()
            .is_some_and(|held| held.is_due(now, wall))
        {
            self.wake.notify_one();
        }
    }

    /// Leaves the cache: the credentials go now, the flight as soon as nobody waits.
    pub(super) fn retire(&self) {
        let mut state = self.state();
        state.is_retired = true;
        state.held = None;
        drop(state);
        self.settled.notify_waiters();
        self.wake.notify_one();
        self.changed.notify_one();
    }

    /// How much life the credentials have left, if there are any.
    pub(super) fn remaining(&self, now: Instant, wall: Timestamp) -> Option<Duration> {
        let left = self.state().held.as_ref()?.remaining(now, wall);
        (!left.is_zero()).then_some(left)
    }

    /// Whether nobody has shown a valid token for long enough that the renewal was left out: what
    /// expires then is missed by nobody, and whoever asks again brings the token to replace it.
    pub(super) fn has_missed_renewal(&self) -> bool {
        self.state().missed_renewal
    }
}

/// A request that waits, counted as long as it does.
pub(super) struct Waiting<'a> {
    entry: &'a Entry,
    /// How the request counts if it gets credentials.
    pub(super) outcome: Outcome,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.entry.state();
        state.waiting -= 1;
        if state.waiting == 0 {
            self.entry.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::script::workload;

    #[tokio::test(start_paused = true)]
    async fn the_last_who_waits_on_a_retired_entry_wakes_its_flight_to_end() {
        let (now, wall) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let pod = workload("sa", "a", "token", Timestamp::MAX);
        let policy = Policy::default();
        let rng = Rng::with_seed(1);
        let entry = Entry::new(pod.identity.clone(), &policy, rng, Arc::default());
        assert!(matches!(entry.ask(&pod, now, wall), Found::Nothing));
        let waiting = entry.join().unwrap();
        assert!(entry.forget(&pod.pod.uid));
        entry.retire();
        entry.woken().await;
        assert!(matches!(entry.plan(now, wall), Step::Sleep(None)));
        drop(waiting);
        let wait = tokio::time::timeout(Duration::from_secs(1), entry.woken());
        assert!(wait.await.is_ok());
        assert!(matches!(entry.plan(now, wall), Step::End));
    }
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_on_an_entry_that_was_retired_between_asking_and_waiting() {
        let (now, wall) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let pod = workload("sa", "a", "token", Timestamp::MAX);
        let (policy, rng) = (Policy::default(), Rng::with_seed(1));
        let entry = Entry::new(pod.identity.clone(), &policy, rng, Arc::default());
        assert!(matches!(entry.ask(&pod, now, wall), Found::Nothing));
        entry.retire();
        assert!(matches!(entry.plan(now, wall), Step::End));
        assert!(entry.join().is_none());
    }
}
