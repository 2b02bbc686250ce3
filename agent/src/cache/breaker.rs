//! The node's circuit breaker: keeps calls from an issuer that does not answer.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::policy::Policy;
use super::urgency::Urgency;

/// Opens after some transient failures in a row, whoever made them. While it is open one probe at
/// a time goes out; the first answer, a refusal too, closes it.
#[derive(Debug)]
pub(super) struct Breaker {
    threshold: u32,
    interval_held: Duration,
    interval_background: Duration,
    longest_background: Duration,
    state: State,
    /// When the issuer was first taken for away.
    opened_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Probing,
    Open { held: Instant, background: Instant },
}

/// What an exchange may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// Go: the breaker is closed.
    Free,
    /// Go as the one probe. Its end must be told.
    Probe,
    /// Wait until then, or until the probe that is out has ended.
    Blocked(Option<Instant>),
}

impl Breaker {
    pub(super) const fn new(policy: &Policy) -> Self {
        Self {
            threshold: policy.breaker_threshold,
            interval_held: policy.probe_interval_held,
            interval_background: policy.probe_interval_background,
            longest_background: policy.longest_probe_interval,
            opened_at: None,
            state: State::Closed { failures: 0 },
        }
    }

    /// Whether calls are kept from the issuer.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// When the next probe is due at the latest; none while one is out.
    pub(super) const fn next_probe(&self) -> Option<Instant> {
        match self.state {
            State::Open { background, .. } => Some(background),
            State::Closed { .. } | State::Probing => None,
        }
    }

    /// Says whether an exchange would pass. A probe has gone out only after [`probe`](Self::probe).
    pub(super) fn passage(&self, urgency: Urgency, now: Instant) -> Passage {
        match self.state {
            State::Closed { .. } => Passage::Free,
            State::Probing => Passage::Blocked(None),
            State::Open { held, background } => {
                let at = match urgency {
                    Urgency::Held => held,
                    Urgency::Background => background,
                };
                if at <= now {
                    Passage::Probe
                } else {
                    Passage::Blocked(Some(at))
                }
            }
        }
    }

    /// The probe goes out.
    pub(super) const fn probe(&mut self) {
        self.state = State::Probing;
    }

    /// The issuer answered: it minted or it refused. For how long it had been taken for away.
    pub(super) fn answered(&mut self, now: Instant) -> Duration {
        self.state = State::Closed { failures: 0 };
        self.opened_at
            .take()
            .map_or(Duration::ZERO, |since| now - since)
    }

    /// An exchange failed that was let through freely.
    pub(super) fn failed(&mut self, now: Instant, rng: &mut Rng) {
        if let State::Closed { failures } = &mut self.state {
            *failures += 1;
            if *failures >= self.threshold {
                self.open(now, rng);
            }
        }
    }

    /// The issuer is away, still or from now on. The next probe is due an interval later; while no
    /// request is held, the later the longer it has been away: renewals have hours, and thousands of
    /// nodes must not keep at an issuer that struggles.
    pub(super) fn open(&mut self, now: Instant, rng: &mut Rng) {
        let since = *self.opened_at.get_or_insert(now);
        let interval = ((now - since) / 4)
            .min(self.longest_background)
            .max(self.interval_background);
        let jitter = 1.0 + 0.2 * rng.f64();
        self.state = State::Open {
            held: now + self.interval_held,
            background: now + interval.mul_f64(jitter),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker(threshold: u32) -> Breaker {
        Breaker::new(&Policy {
            breaker_threshold: threshold,
            probe_interval_held: SECOND,
            probe_interval_background: 15 * SECOND,
            longest_probe_interval: 40 * SECOND,
            ..Policy::default()
        })
    }

    fn opened(now: Instant, rng: &mut Rng) -> Breaker {
        let mut breaker = breaker(3);
        for _ in 0..3 {
            assert!(!breaker.is_open());
            breaker.failed(now, rng);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_answer_starts_the_row_anew() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut breaker = breaker(2);
        for _ in 0..5 {
            breaker.failed(now, &mut rng);
            assert_eq!(breaker.answered(now), Duration::ZERO);
        }
        assert_eq!(breaker.passage(Urgency::Background, now), Passage::Free);
        assert!(opened(now, &mut rng).is_open());
    }

    #[test]
    fn one_probe_at_a_time_sooner_while_a_request_is_held() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut breaker = opened(now, &mut rng);
        let soon = Passage::Blocked(Some(now + SECOND));
        assert_eq!(breaker.passage(Urgency::Held, now), soon);
        assert_eq!(breaker.passage(Urgency::Held, now + SECOND), Passage::Probe);
        let Passage::Blocked(Some(later)) = breaker.passage(Urgency::Background, now + SECOND)
        else {
            panic!("renewals wait longer");
        };
        assert!(later >= now + 15 * SECOND && later <= now + 18 * SECOND);
        breaker.probe();
        assert_eq!(
            breaker.passage(Urgency::Held, now + 9 * SECOND),
            Passage::Blocked(None)
        );
        breaker.open(now + 9 * SECOND, &mut rng);
        let next = Passage::Blocked(Some(now + 10 * SECOND));
        assert_eq!(breaker.passage(Urgency::Held, now + 9 * SECOND), next);
        assert_eq!(breaker.answered(now + 9 * SECOND), 9 * SECOND);
        assert_eq!(
            breaker.passage(Urgency::Background, now + 9 * SECOND),
            Passage::Free
        );
    }

    #[test]
    fn renewals_probe_later_the_longer_it_lasts_and_held_requests_as_soon_as_before() {
        let (begun, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut breaker = opened(begun, &mut rng);
        for (lasted, least) in [
            (0, 15),
            (15, 15),
            (60, 15),
            (100, 25),
            (200, 40),
            (9000, 40),
        ] {
            let now = begun + lasted * SECOND;
            breaker.probe();
            breaker.open(now, &mut rng);
            let next = breaker.next_probe().unwrap() - now;
            let least = least * SECOND;
            assert!(next >= least && next <= least + least / 5, "{next:?}");
            let soon = Passage::Blocked(Some(now + SECOND));
            assert_eq!(breaker.passage(Urgency::Held, now), soon);
        }
        breaker.answered(begun + 9_500 * SECOND);
        let now = begun + 10_000 * SECOND;
        for _ in 0..3 {
            breaker.failed(now, &mut rng);
        }
        assert!(breaker.next_probe().unwrap() <= now + 18 * SECOND);
    }
}
