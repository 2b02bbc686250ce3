//! What all identities of a node share on their way to the issuer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::breaker::{Breaker, Passage};
use super::budget::Budget;
use super::clocks::Clocks;
use super::line::Place;
use super::pace::Pace;
use super::policy::Policy;
use super::saved::SavedGate;
use super::urgency::Urgency;
use crate::metrics::Metrics;

/// Lets exchanges through: so many at once, a quarter of them for held requests alone, retries
/// within a budget, renewals at a pace that the issuer takes and not while another agent makes them,
/// and next to nothing while the breaker is open.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Notify,
    breaker_open: IntGauge,
    in_flight: IntGauge,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    budget: Budget,
    throttled_until: Option<Instant>,
    pace: Pace,
    in_flight: usize,
    max_in_flight: usize,
    /// Another agent of the node renews.
    resting: bool,
    rng: Rng,
}

/// Why an exchange must wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    /// When to ask again, if [`Gate::changed`] does not come first.
    pub(super) until: Option<Instant>,
    /// Others are in front: only that their turns end changes it, and [`Turn::come`] tells.
    pub(super) in_line: bool,
    /// The breaker is open. Who waited for it pays from the budget afterwards, so that its closing
    /// lets no burst through.
    pub(super) by_breaker: bool,
}

/// How an exchange ended, as far as the node is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// The issuer minted or refused.
    Answered,
    /// The issuer was not reached, or made no sense.
    Failed,
    /// The issuer asked for a pause until then.
    Throttled(Instant),
}

/// The gate at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct GateView {
    pub(super) is_breaker_open: bool,
    pub(super) next_probe: Option<Instant>,
    pub(super) throttled_until: Option<Instant>,
    pub(super) in_flight: usize,
    pub(super) max_in_flight: usize,
}

impl Gate {
    pub(super) fn new(policy: &Policy, metrics: &Metrics, rng: Rng) -> Self {
        let state = State {
            breaker: Breaker::new(policy),
            budget: Budget::new(
                policy.retry_burst,
                policy.retries_per_second,
                Instant::now(),
            ),
            throttled_until: None,
            pace: Pace::default(),
            in_flight: 0,
            max_in_flight: policy.max_exchanges,
            resting: false,
            rng,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            breaker_open: metrics.exchange_breaker_open.clone(),
            in_flight: metrics.exchanges_in_flight.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when who was blocked may ask again. To be made before the question, so that no change
    /// between the two is missed.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Holds renewals back while another agent of the node makes them, or no longer.
    pub(super) fn rest(&self, resting: bool) {
        self.state().resting = resting;
        self.changed.notify_waiters();
    }

    /// What another agent is to know.
    pub(super) fn save(&self, clocks: Clocks) -> SavedGate {
        let state = self.state();
        SavedGate {
            breaker_open: state.breaker.is_open(),
            retries_left: state.budget.left(clocks.now),
            throttled_until: state.throttled_until.map(|until| clocks.wall_at(until)),
            pace: state.pace.save(),
        }
    }

    /// Goes on where another agent was.
    pub(super) fn restore(&self, saved: SavedGate, clocks: Clocks) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.budget.restore(saved.retries_left, clocks.now);
        state.throttled_until = saved.throttled_until.map(|until| clocks.instant_at(until));
        let rng = &mut state.rng;
        state.pace.restore(saved.pace, clocks.now, rng);
        if saved.breaker_open && !state.breaker.is_open() {
            state.breaker.open(clocks.now, &mut state.rng);
        }
        self.breaker_open.set(state.breaker.is_open().into());
    }

    /// What it would do now.
    pub(super) fn view(&self, now: Instant) -> GateView {
        let state = self.state();
        GateView {
            is_breaker_open: state.breaker.is_open(),
            next_probe: state.breaker.next_probe(),
            throttled_until: state.throttled_until.filter(|until| now < *until),
            in_flight: state.in_flight,
            max_in_flight: state.max_in_flight,
        }
    }

    /// Takes in an exchange that nobody waits for; `ends_at` is when the key that it renews ends.
    pub(super) fn line_up(self: &Arc<Self>, ends_at: Instant) -> Turn {
        let (place, called) = self.state().pace.join(ends_at);
        Turn {
            gate: Arc::clone(self),
            place,
            called,
        }
    }

    /// Lets one exchange through, or says what it must wait for. One that has a turn waits for it, and
    /// others are made for a request that is held.
    ///
    /// # Errors
    /// [`Blocked`], when it may not start now.
    pub(super) fn admit(
        self: &Arc<Self>,
        turn: Option<&Turn>,
        is_retry: bool,
        now: Instant,
    ) -> Result<Permit, Blocked> {
        let urgency = turn.map_or(Urgency::Held, |_| Urgency::Background);
        let mut guard = self.state();
        let state = &mut *guard;
        let blocked = |until| Blocked {
            until,
            in_line: false,
            by_breaker: false,
        };
        if state.resting && urgency == Urgency::Background {
            return Err(blocked(None));
        }
        if let Some(until) = state.throttled_until
            && urgency == Urgency::Background
            && now < until
        {
            return Err(blocked(Some(until)));
        }
        if let Some(turn) = turn {
            let admitted = state.pace.admit(turn.place, now);
            admitted.map_err(|until| Blocked {
                in_line: until.is_none(),
                ..blocked(until)
            })?;
        }
        // Renewals have hours; behind them, if they hang, held requests would pass their limit.
        let places = match urgency {
            Urgency::Held => state.max_in_flight,
            Urgency::Background => state.max_in_flight - state.max_in_flight / 4,
        };
        if state.in_flight >= places {
            return Err(blocked(None));
        }
        let is_probe = match state.breaker.passage(urgency, now) {
            Passage::Blocked(until) => {
                return Err(Blocked {
                    by_breaker: true,
                    ..blocked(until)
                });
            }
            Passage::Probe => {
                state.breaker.probe();
                true
            }
            Passage::Free => {
                if is_retry {
                    let spent = state.budget.spend(urgency, now);
                    spent.map_err(|at| blocked(Some(at)))?;
                }
                false
            }
        };
        if urgency == Urgency::Background {
            state.pace.begun(now, &mut state.rng);
        }
        state.in_flight += 1;
        self.in_flight.inc();
        Ok(Permit {
            gate: Arc::clone(self),
            is_probe,
            ending: None,
        })
    }
}

/// A place among the exchanges that nobody waits for; given up when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    gate: Arc<Gate>,
    place: Place,
    called: Arc<Notify>,
}

impl Turn {
    /// Whether it is that of a key that ends then.
    pub(super) fn is_for(&self, ends_at: Instant) -> bool {
        self.place.0 == ends_at
    }

    /// Ends when it is in front.
    pub(super) async fn come(&self) {
        self.called.notified().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.gate.state().pace.leave(self.place);
    }
}

/// The right to one exchange; given back when dropped, whatever became of the exchange.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    is_probe: bool,
    ending: Option<Ending>,
}

impl Permit {
    /// Gives the permit back and says how the exchange ended.
    pub(super) fn settle(mut self, ending: Ending) {
        self.ending = Some(ending);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut guard = self.gate.state();
        let state = &mut *guard;
        state.in_flight -= 1;
        self.gate.in_flight.dec();
        match self.ending {
            Some(Ending::Answered) => {
                let away = state.breaker.answered(now);
                state.pace.answered();
                state.pace.resumed(away, now, &mut state.rng);
            }
            Some(Ending::Failed) if !self.is_probe => state.breaker.failed(now, &mut state.rng),
            Some(Ending::Throttled(until)) => {
                state.throttled_until = state.throttled_until.max(Some(until));
                state.pace.throttled(now, &mut state.rng);
            }
            Some(Ending::Failed) | None => {}
        }
        let is_answered = matches!(self.ending, Some(Ending::Answered));
        if self.is_probe && !is_answered && state.breaker.is_open() {
            state.breaker.open(now, &mut state.rng);
        }
        self.gate.breaker_open.set(state.breaker.is_open().into());
        drop(guard);
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(gate: &Arc<Gate>, urgency: Urgency, permits: &mut Vec<Permit>) -> usize {
        let (before, now) = (permits.len(), Instant::now());
        let turn = (urgency == Urgency::Background).then(|| gate.line_up(now));
        while let Ok(permit) = gate.admit(turn.as_ref(), false, now) {
            permits.push(permit);
        }
        permits.len() - before
    }

    fn gate(max_exchanges: usize) -> Arc<Gate> {
        let policy = Policy {
            max_exchanges,
            ..Policy::default()
        };
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        Arc::new(Gate::new(&policy, &metrics, Rng::with_seed(1)))
    }

    #[tokio::test]
    async fn renewals_that_hang_leave_places_to_held_requests() {
        let (gate, mut permits) = (gate(16), Vec::new());
        assert_eq!(admitted(&gate, Urgency::Background, &mut permits), 12);
        assert_eq!(admitted(&gate, Urgency::Held, &mut permits), 4);
        assert_eq!(gate.in_flight.get(), 16);
        permits.clear();
        assert_eq!(gate.in_flight.get(), 0);
        assert_eq!(admitted(&gate, Urgency::Held, &mut permits), 16);
    }

    #[tokio::test]
    async fn the_only_place_is_for_renewals_too() {
        let (gate, mut permits) = (gate(1), Vec::new());
        assert_eq!(admitted(&gate, Urgency::Background, &mut permits), 1);
    }
}
