//! How fast a node makes the exchanges that nobody waits for.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

/// A shorter pause is none.
const SHORTEST: Duration = Duration::from_millis(500);
/// The first pause after the issuer has throttled.
const FIRST: Duration = Duration::from_secs(1);
/// The longest: fifty identities one after the other take four hours, less than a key of six lives.
const LONGEST: Duration = Duration::from_mins(5);
/// The pause when the issuer is back after an outage that was long enough for many keys to be due.
const AFTER_OUTAGE: Duration = Duration::from_secs(30);
/// What counts as one.
const OUTAGE: Duration = Duration::from_mins(1);
/// Keys with this much life left or more are the last to be renewed.
const FAR: Duration = Duration::from_hours(3);

/// Pauses between exchanges: none until the issuer throttles or comes back from an outage. A throttled
/// answer doubles the pause, any other one takes a quarter of it away. No node knows how many others
/// there are: so each finds its share of what the issuer takes, instead of all asking for everything
/// again each second.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pause: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// Goes on with the pause of another agent.
    pub(super) fn with(pause: Duration, now: Instant, rng: &mut Rng) -> Self {
        let mut pace = Self {
            pause: pause.min(LONGEST),
            next: None,
        };
        pace.begun(now, rng);
        pace
    }

    /// The pause that it is at.
    pub(super) const fn pause(&self) -> Duration {
        self.pause
    }

    /// Whether an exchange may begin for a key with so much life left; otherwise when to ask again. Of
    /// those that wait for the same moment the one whose key ends first asks first.
    pub(super) fn admit(&self, remaining: Duration, now: Instant) -> Result<(), Instant> {
        let Some(next) = self.next else {
            return Ok(());
        };
        let rank = remaining.min(FAR).as_secs_f64() / FAR.as_secs_f64();
        let at = next + self.pause.mul_f64(rank / 2.0);
        if at <= now { Ok(()) } else { Err(at) }
    }

    /// An exchange begins.
    pub(super) fn begun(&mut self, now: Instant, rng: &mut Rng) {
        let jitter = 0.5 + rng.f64();
        self.next = (!self.pause.is_zero()).then(|| now + self.pause.mul_f64(jitter));
    }

    /// The issuer has answered and did not throttle.
    pub(super) fn answered(&mut self) {
        self.pause = self.pause * 3 / 4;
        if self.pause < SHORTEST {
            *self = Self::default();
        }
    }

    /// The issuer has throttled.
    pub(super) fn throttled(&mut self, now: Instant, rng: &mut Rng) {
        self.pause = (self.pause * 2).clamp(FIRST, LONGEST);
        self.begun(now, rng);
    }

    /// The issuer is back after so long.
    pub(super) fn resumed(&mut self, away: Duration, now: Instant, rng: &mut Rng) {
        if away >= OUTAGE {
            self.pause = self.pause.max(AFTER_OUTAGE);
            self.begun(now, rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_free_until_the_issuer_throttles_and_again_after_some_answers() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut pace = Pace::default();
        pace.begun(now, &mut rng);
        assert_eq!(pace.admit(Duration::ZERO, now), Ok(()));
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            pace.throttled(now, &mut rng);
            let at = pace.admit(Duration::ZERO, now).unwrap_err() - now;
            let pause = pause * SECOND;
            assert!(
                at >= pause / 2 && at <= pause * 3 / 2,
                "{at:?} of {pause:?}"
            );
            assert_eq!(pace.admit(Duration::ZERO, now + at), Ok(()));
        }
        let answers = std::iter::from_fn(|| {
            pace.answered();
            (!pace.pause().is_zero()).then_some(())
        });
        assert_eq!(answers.count(), 22);
        assert_eq!(pace.admit(Duration::ZERO, now), Ok(()));
    }

    #[test]
    fn the_key_that_ends_first_asks_first() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut pace = Pace::default();
        pace.throttled(now, &mut rng);
        let [soon, later, far, farther] = [1, 60, 180, 600].map(|minutes| {
            let remaining = Duration::from_mins(minutes);
            pace.admit(remaining, now).unwrap_err()
        });
        assert!(soon < later && later < far && far == farther);
    }

    #[test]
    fn only_a_long_outage_makes_it_careful() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut pace = Pace::default();
        pace.resumed(59 * SECOND, now, &mut rng);
        assert!(pace.pause().is_zero());
        pace.resumed(60 * SECOND, now, &mut rng);
        assert_eq!(pace.pause(), AFTER_OUTAGE);
        let next = Pace::with(pace.pause(), now, &mut rng);
        assert!(next.admit(Duration::ZERO, now).is_err());
    }
}
