//! What one identity has, wants and waits for; and every decision about it, as pure functions of
//! the two clocks.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::cache::backoff::Backoff;
use crate::cache::clocks::Clocks;
use crate::cache::handover::CurrentCredentials;
use crate::cache::held::{Held, remaining};
use crate::cache::policy::Policy;
use crate::cache::tokens::{Choice, Tokens};
use crate::cache::urgency::Urgency;
use crate::cache::view::{FailureView, IdentityView, KeyView};
use crate::credentials::Credentials;
use crate::error::Error;
use crate::exchange::ExchangeError;
use crate::workload::{Identity, Workload};

/// After so many refused tokens the refusal is taken for the identity's: a wrong audience or an
/// unknown issuer must not cost one exchange for each Pod.
const REFUSED_TOKENS_FOR_ALL: usize = 4;

/// The state of one identity.
#[derive(Debug)]
pub(super) struct State {
    pub(super) held: Option<Held>,
    pub(super) tokens: Tokens,
    /// The issuer refused the principal: until then, in these words.
    refusal: Option<(Instant, String)>,
    pub(super) backoff: Backoff,
    pub(super) last_failure: Option<FailureView>,
    /// When the credentials were received; not known of those that another agent received.
    received_at: Option<Timestamp>,
    pub(super) waiting: usize,
    /// A request asked, even if it has hung up, and the issuer has not refused since. So a key that
    /// an outage outlived is fetched as soon as the issuer is back, like a late renewal.
    pub(super) is_wanted: bool,
    pub(super) flight: FlightState,
    /// Out of the cache: serves those who wait already, then ends.
    pub(super) is_retired: bool,
    /// The renewal is due, and no Pod has a valid token.
    pub(super) missed_renewal: bool,
    rng: Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlightState {
    Absent,
    Between,
    Exchanging,
}

/// What a request finds.
#[derive(Debug)]
pub(in crate::cache) enum Found {
    Credentials(Credentials),
    Refusal(Error),
    /// Nothing yet: it may wait.
    Nothing,
    /// The entry is out of the cache: look for its successor.
    Retired,
}

/// What the flight does next.
#[derive(Debug)]
pub(in crate::cache) enum Step {
    /// Exchange this token.
    Exchange {
        workload: Arc<Workload>,
        urgency: Urgency,
        is_retry: bool,
        /// When the key that is renewed ends.
        ends_at: Option<Instant>,
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
pub(in crate::cache) enum Settled {
    First,
    Renewed,
    Failed { keeps_credentials: bool },
}

impl State {
    pub(super) fn new(policy: &Policy, rng: Rng) -> Self {
        Self {
            held: None,
            tokens: Tokens::new(policy.max_pods_per_identity, policy.refusal_memory),
            refusal: None,
            backoff: Backoff::default(),
            last_failure: None,
            received_at: None,
            waiting: 0,
            is_wanted: false,
            flight: FlightState::Absent,
            is_retired: false,
            missed_renewal: false,
            rng,
        }
    }

    pub(super) fn find(&self, workload: &Workload, now: Instant, wall: Timestamp) -> Found {
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

    pub(super) fn plan(&mut self, now: Instant, wall: Timestamp) -> Step {
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
            Some(held) if !held.is_due(now, wall) => return Step::Sleep(Some(held.renew_at())),
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
                    ends_at: deadline,
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

    /// Takes credentials of another agent, if they live longer than what is here.
    pub(super) fn take_over(&mut self, saved: CurrentCredentials, clocks: Clocks) {
        let CurrentCredentials {
            credentials,
            ends_at,
            renew_at,
        } = saved;
        let Some(newer) = Held::restore(credentials, (ends_at, renew_at), clocks) else {
            return;
        };
        let (now, wall) = (clocks.now, clocks.wall);
        if let Some(held) = &self.held {
            let is_same = held.credentials.access_key_id() == newer.credentials.access_key_id();
            if is_same || held.remaining(now, wall) >= newer.remaining(now, wall) {
                return;
            }
            // Whoever renewed it was answered.
            self.backoff = Backoff::default();
        }
        self.held = Some(newer);
        self.received_at = None;
        self.refusal = None;
        self.missed_renewal = false;
    }

    /// Nobody wants credentials: the entry stays as long as a Pod's token could ask for some.
    fn rest(&mut self, now: Instant, wall: Timestamp) -> Step {
        if let Some(last) = self.tokens.last_expiry() {
            return Step::Sleep(now.checked_add(remaining(last, wall)));
        }
        self.is_retired = true;
        Step::End
    }

    pub(super) fn settle(
        &mut self,
        workload: &Workload,
        result: Result<Credentials, ExchangeError>,
        started: Instant,
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
                    Some(held) => held.replace(newer, now, wall),
                    None => self.held = Some(newer),
                }
                let id = credentials.access_key_id();
                if self
                    .held
                    .as_ref()
                    .is_some_and(|held| held.credentials.access_key_id() == id)
                {
                    self.received_at = Some(wall);
                }
                self.backoff = Backoff::default();
                self.refusal = None;
                self.last_failure = None;
                self.missed_renewal = false;
                (settled, Ok(credentials))
            }
            Err(error) => {
                self.backoff.failed(&error, (started, now), &mut self.rng);
                self.last_failure = Some(FailureView {
                    at: wall,
                    is_refusal: matches!(error, ExchangeError::Refused { .. }),
                    message: error.to_string(),
                });
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

    /// What a person may see of it.
    pub(super) fn view(&self, identity: &Identity, moment: Clocks) -> IdentityView {
        let Clocks { now, wall } = moment;
        let held = self.held.as_ref();
        let held = held.filter(|held| !held.is_expired(now, wall));
        let urgency = if held.is_some() || self.waiting == 0 {
            Urgency::Background
        } else {
            Urgency::Held
        };
        let wanted = self.waiting > 0 || self.is_wanted;
        let due = held.map(Held::renew_at).or_else(|| wanted.then_some(now));
        let next = due.map(|due| due.max(self.backoff.not_before(urgency).unwrap_or(due)));
        IdentityView {
            identity: identity.clone(),
            key: held.map(|held| KeyView {
                received_at: self.received_at,
                expires_at: held.credentials.expires_at(),
            }),
            next_exchange_at: next.map(|at| moment.wall_at(at)),
            pods: self.tokens.count(wall),
            held_requests: self.waiting,
            without_token: self.missed_renewal,
            failure: self.last_failure.clone(),
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
