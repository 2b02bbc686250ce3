//! One identity: its credentials, its Pods' tokens, who waits, and what is to be done next.
//!
//! Every decision is made here, under one short lock; [`flight`](super::flight) carries it out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::held::{Held, remaining};
use super::policy::Policy;
use super::tokens::{Choice, Tokens};
use super::urgency::Urgency;
use crate::credentials::Credentials;
use crate::error::Error;
use crate::exchange::ExchangeError;
use crate::metrics::Outcome;
use crate::workload::{Identity, PodUid, Workload};

/// After so many refused tokens the refusal is taken for the identity's: a wrong audience or an
/// unknown issuer must not cost one exchange for each Pod.
const REFUSED_TOKENS_FOR_ALL: usize = 4;

/// The state of one identity.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) identity: Identity,
    state: Mutex<State>,
    /// Waiting requests look again.
    settled: Notify,
    /// The flight looks again.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    held: Option<Held>,
    tokens: Tokens,
    /// The issuer refused the principal: until then, in these words.
    refusal: Option<(Instant, String)>,
    backoff: Backoff,
    last_failure: Option<String>,
    waiting: usize,
    /// A request asked since the last exchange that settled it, even if it has hung up.
    is_wanted: bool,
    flight: FlightState,
    /// Out of the cache: serves those who wait already, then ends.
    is_retired: bool,
    missed_renewal: bool,
    rng: Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlightState {
    Absent,
    Between,
    Exchanging,
}

/// What a request finds.
#[derive(Debug)]
pub(super) enum Found {
    Credentials(Credentials),
    Refusal(Error),
    /// Nothing yet: it may wait.
    Nothing,
    /// The entry is out of the cache: look for its successor.
    Retired,
}

/// What the flight does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Exchange this token.
    Exchange {
        workload: Arc<Workload>,
        urgency: Urgency,
        is_retry: bool,
    },
    /// Nothing, until then or until woken.
    Sleep(Option<Instant>),
    /// The same, after a renewal had to be given up for want of a token.
    MissRenewal(Instant),
    /// Nothing any more.
    End,
}

/// What became of an exchange.
#[derive(Debug)]
pub(super) enum Settled {
    First,
    Renewed,
    Failed { keeps_credentials: bool },
}

impl Entry {
    pub(super) fn new(identity: Identity, policy: &Policy, rng: Rng) -> Self {
        let state = State {
            held: None,
            tokens: Tokens::new(policy.max_pods_per_identity, policy.refusal_memory),
            refusal: None,
            backoff: Backoff::default(),
            last_failure: None,
            waiting: 0,
            is_wanted: false,
            flight: FlightState::Absent,
            is_retired: false,
            missed_renewal: false,
            rng,
        };
        Self {
            identity,
            state: Mutex::new(state),
            settled: Notify::new(),
            wake: Notify::new(),
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
        }
        state.find(workload, now, wall)
    }

    /// Looks for an answer for a request that waits.
    pub(super) fn look(&self, workload: &Workload, now: Instant, wall: Timestamp) -> Found {
        self.state().find(workload, now, wall)
    }

    /// Takes in a request that waits; it leaves when the guard is dropped.
    pub(super) fn join(&self) -> Waiting<'_> {
        let mut state = self.state();
        let is_first = state.waiting == 0 && state.flight != FlightState::Exchanging;
        state.waiting += 1;
        state.is_wanted = true;
        self.wake.notify_one();
        let outcome = if is_first {
            Outcome::Miss
        } else {
            Outcome::Coalesced
        };
        Waiting {
            entry: self,
            outcome,
        }
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

    /// Takes in how an exchange of `workload`'s token ended, and tells those who wait. Gives the
    /// result back; credentials that arrived expired have become a failure.
    pub(super) fn settle(
        &self,
        workload: &Workload,
        result: Result<Credentials, ExchangeError>,
        (now, wall): (Instant, Timestamp),
        policy: &Policy,
    ) -> (Settled, Result<Credentials, ExchangeError>) {
        let mut state = self.state();
        let ended = state.settle(workload, result, (now, wall), policy);
        drop(state);
        self.settled.notify_waiters();
        ended
    }

    /// When the next exchange may start, if the last one failed.
    pub(super) fn not_before(&self, urgency: Urgency) -> Option<Instant> {
        self.state().backoff.not_before(urgency)
    }

    /// What the last exchange failed with, for a request that waited in vain.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.state().last_failure.clone()
    }

    /// Forgets a Pod, and says whether the identity has none left because of that.
    pub(super) fn forget(&self, pod: &PodUid) -> bool {
        let mut state = self.state();
        state.tokens.forget(pod) && state.tokens.is_empty()
    }

    /// Leaves the cache: the credentials go now, the flight as soon as nobody waits.
    pub(super) fn retire(&self) {
        let mut state = self.state();
        state.is_retired = true;
        state.held = None;
        drop(state);
        self.settled.notify_waiters();
        self.wake.notify_one();
    }

    /// How much life the credentials have left, if there are any.
    pub(super) fn remaining(&self, now: Instant, wall: Timestamp) -> Option<Duration> {
        let left = self.state().held.as_ref()?.remaining(now, wall);
        (!left.is_zero()).then_some(left)
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

impl State {
    fn find(&self, workload: &Workload, now: Instant, wall: Timestamp) -> Found {
        if let Some(held) = &self.held
            && !held.is_expired(now, wall)
        {
            return Found::Credentials(held.credentials.clone());
        }
        let refusal = match &self.refusal {
            Some((until, message)) if now < *until => Some(message.as_str()),
            _ => self.tokens.refusal(&workload.pod.uid, now),
        };
        if let Some(message) = refusal {
            return Found::Refusal(Error::Forbidden(message.to_owned()));
        }
        if matches!(self.tokens.choose(now, wall), Choice::Nothing) {
            let message = "the service account token has expired, or its Pod has ended: read it \
                           again from its file";
            return Found::Refusal(Error::Unauthenticated(message.to_owned()));
        }
        Found::Nothing
    }

    fn plan(&mut self, now: Instant, wall: Timestamp) -> Step {
        if self
            .held
            .as_ref()
            .is_some_and(|held| held.is_expired(now, wall))
        {
            self.held = None;
        }
        self.tokens.drop_expired(wall);
        if self.is_retired && self.waiting == 0 {
            return Step::End;
        }
        let (is_due, deadline) = match &self.held {
            Some(held) if now < held.renew_at() => return Step::Sleep(Some(held.renew_at())),
            Some(held) => (true, Some(held.deadline())),
            None => (false, None),
        };
        if !is_due && self.waiting == 0 && !self.is_wanted {
            return self.rest(now, wall);
        }
        if let Some((until, _)) = &self.refusal
            && !is_due
            && now < *until
        {
            return Step::Sleep(Some(*until));
        }
        let urgency = if is_due || self.waiting == 0 {
            Urgency::Background
        } else {
            Urgency::Held
        };
        match self.tokens.choose(now, wall) {
            Choice::Token(workload) => match self.backoff.not_before(urgency) {
                Some(at) if now < at => Step::Sleep(Some(deadline.map_or(at, |end| end.min(at)))),
                _ => Step::Exchange {
                    workload,
                    urgency,
                    is_retry: self.backoff.is_retry(),
                },
            },
            Choice::Later(at) => Step::Sleep(Some(at)),
            Choice::Nothing => match deadline {
                Some(end) if !self.missed_renewal => {
                    self.missed_renewal = true;
                    Step::MissRenewal(end)
                }
                None if self.waiting == 0 => self.rest(now, wall),
                _ => Step::Sleep(deadline),
            },
        }
    }

    /// Nobody wants credentials: the entry stays as long as a Pod's token could ask for some.
    fn rest(&mut self, now: Instant, wall: Timestamp) -> Step {
        if let Some(last) = self.tokens.last_expiry() {
            return Step::Sleep(now.checked_add(remaining(last, wall)));
        }
        self.is_retired = true;
        Step::End
    }

    fn settle(
        &mut self,
        workload: &Workload,
        result: Result<Credentials, ExchangeError>,
        (now, wall): (Instant, Timestamp),
        policy: &Policy,
    ) -> (Settled, Result<Credentials, ExchangeError>) {
        self.flight = FlightState::Between;
        let received = result.and_then(|credentials| {
            Held::receive(credentials, now, wall, policy.min_remaining, &mut self.rng)
                .map_err(|message| ExchangeError::Uncertain { message })
        });
        match received {
            Ok(newer) => {
                let credentials = newer.credentials.clone();
                let settled = if self.held.is_some() {
                    Settled::Renewed
                } else {
                    Settled::First
                };
                match &mut self.held {
                    Some(held) => held.replace(newer),
                    None if self.is_retired && self.waiting == 0 => {}
                    None => self.held = Some(newer),
                }
                self.backoff = Backoff::default();
                self.refusal = None;
                self.last_failure = None;
                self.is_wanted = false;
                self.missed_renewal = false;
                (settled, Ok(credentials))
            }
            Err(error) => {
                self.backoff.failed(&error, now, &mut self.rng);
                self.last_failure = Some(error.to_string());
                if let ExchangeError::Refused { status, message } = &error {
                    self.is_wanted = false;
                    self.refuse(workload, *status, message, now, policy.refusal_memory);
                }
                let keeps_credentials = self
                    .held
                    .as_ref()
                    .is_some_and(|held| !held.is_expired(now, wall));
                (Settled::Failed { keeps_credentials }, Err(error))
            }
        }
    }

    /// 400 and 401 are about the token, 403 and 404 about the principal.
    fn refuse(
        &mut self,
        workload: &Workload,
        status: u16,
        message: &str,
        now: Instant,
        memory: Duration,
    ) {
        let is_about_token = matches!(status, 400 | 401);
        if is_about_token {
            self.tokens.refuse(workload, now, message.to_owned());
        }
        if !is_about_token || self.tokens.refused(now) >= REFUSED_TOKENS_FOR_ALL {
            self.refusal = Some((now + memory, message.to_owned()));
        }
    }
}
