//! How fast a node makes the exchanges that nobody waits for.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::line::{Line, Place};
use super::saved::SavedPace;

/// In how long a careful node makes all renewals that are due. It is as much as an outage that begins
/// then takes from the reserve of a key.
const WINDOW: Duration = Duration::from_mins(30);
/// The longest, after an outage.
const LONGEST_WINDOW: Duration = Duration::from_hours(2);
/// What a careful node leaves of a key's life to mishaps.
const RESERVE: f64 = 1.0 / 3.0;
/// As careful as a node becomes: more would take from the reserve for the next outage.
const MOST: f64 = 1.0;
/// The same after an outage.
const MOST_AFTER_OUTAGE: f64 = 6.0;
/// What a throttled answer adds to the caution.
const STEP: f64 = 0.5;
/// What another answer leaves of it. Where one exchange of twenty is throttled, the caution settles
/// at a half; where one of eleven is, it is one, and after an outage where one of three is, five. Much less
/// lets a fleet ask an issuer in vain that gives all it has: `make fleet` shows it.
const RELIEF: f64 = 0.95;
/// Less is none.
const LEAST: f64 = 0.02;
/// An outage that was long enough for many keys to be due, on all nodes at once.
const OUTAGE: Duration = Duration::from_mins(1);

/// Pauses between exchanges: none until the issuer throttles or comes back from an outage.
///
/// No node knows how many others there are, but each knows what became due, when, and what its own keys
/// can wait for. What is due is renewed in half an hour, or after an outage in as long as that lasted:
/// so the fleet asks no faster than it would have without one. Keys that end soon go first, and a node
/// that has some asks more often than others. How much of the pause that follows from this is kept is
/// the node's caution: a throttled answer adds to it, any other one takes some away, and after an outage
/// it is one. Beyond that, only those wait longer whose keys can.
#[derive(Debug, Default)]
pub(super) struct Pace {
    line: Line,
    /// From 0 to [`MOST`], or [`MOST_AFTER_OUTAGE`].
    caution: f64,
    /// After an outage: in how long all that is due is renewed.
    window: Option<Duration>,
    /// When the last exchange began, and how much of the pause follows it.
    last: Option<(Instant, f64)>,
}

impl Pace {
    /// Goes on as carefully as another agent.
    pub(super) fn restore(&mut self, saved: SavedPace, now: Instant, rng: &mut Rng) {
        self.window = saved.window.map(|window| window.min(LONGEST_WINDOW));
        self.caution = saved.caution.clamp(0.0, self.most());
        self.begun(now, rng);
        self.line.call_all();
    }

    /// What another agent is to know.
    pub(super) const fn save(&self) -> SavedPace {
        SavedPace {
            caution: self.caution,
            window: self.window,
        }
    }

    const fn most(&self) -> f64 {
        if self.window.is_some() {
            MOST_AFTER_OUTAGE
        } else {
            MOST
        }
    }

    /// Takes in a renewal of a key that ends then, and says how it will be called.
    pub(super) fn join(&mut self, ends_at: Instant) -> (Place, Arc<Notify>) {
        self.line.join(ends_at)
    }

    /// Lets a renewal go.
    pub(super) fn leave(&mut self, mine: Place) {
        self.line.leave(mine);
    }

    /// Whether an exchange may begin; otherwise when to ask again, or [`None`] where others are in
    /// front: it is called.
    pub(super) fn admit(&self, mine: Place, now: Instant) -> Result<(), Option<Instant>> {
        if self.caution == 0.0 {
            return Ok(());
        }
        if !self.line.is_first(mine) {
            return Err(None);
        }
        let Some((last, part)) = self.last else {
            return Ok(());
        };
        let window = self.window.unwrap_or(WINDOW).mul_f64(self.caution);
        let spent = (1.0 - RESERVE) * self.caution.min(1.0);
        let longest = self.line.longest_pause(window, spent, now);
        let at = last + longest.unwrap_or_default().mul_f64(part);
        if at <= now { Ok(()) } else { Err(Some(at)) }
    }

    /// An exchange begins.
    pub(super) fn begun(&mut self, now: Instant, rng: &mut Rng) {
        self.last = Some((now, 0.5 + rng.f64()));
    }

    /// The issuer has answered and did not throttle.
    pub(super) fn answered(&mut self) {
        self.caution *= RELIEF;
        if self.caution < LEAST && self.caution > 0.0 {
            (self.caution, self.window) = (0.0, None);
            self.line.call_all();
        }
    }

    /// The issuer has throttled.
    pub(super) fn throttled(&mut self, now: Instant, rng: &mut Rng) {
        self.caution = (self.caution + STEP).min(self.most());
        self.begun(now, rng);
    }

    /// The issuer is back after so long.
    pub(super) fn resumed(&mut self, away: Duration, now: Instant, rng: &mut Rng) {
        if away >= OUTAGE {
            self.caution = self.caution.max(1.0);
            self.window = Some(away.clamp(WINDOW, LONGEST_WINDOW));
            self.begun(now, rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_hours(1);

    /// How long whoever is in front must wait.
    fn pause(pace: &Pace, mine: Place, now: Instant) -> Duration {
        let at = pace.admit(mine, now).unwrap_err();
        at.expect("nobody is in front of it") - now
    }

    fn about(pause: Duration, expected: Duration) -> bool {
        pause >= expected / 2 && pause <= expected * 3 / 2
    }

    #[test]
    fn it_is_free_until_the_issuer_throttles_and_again_after_some_answers() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut pace = Pace::default();
        let (mine, _) = pace.join(now + 3 * HOUR);
        pace.begun(now, &mut rng);
        assert_eq!(pace.admit(mine, now), Ok(()));
        for times in 1..=25 {
            pace.throttled(now, &mut rng);
            let minutes = (15 * times).min(30);
            let pause = pause(&pace, mine, now);
            assert!(about(pause, minutes * 60 * SECOND), "{pause:?}, {minutes}");
            assert_eq!(pace.admit(mine, now + pause), Ok(()));
        }
        let answers = std::iter::from_fn(|| {
            pace.answered();
            (pace.caution > 0.0).then_some(())
        });
        assert_eq!(answers.count(), 76);
        assert_eq!(pace.admit(mine, now), Ok(()));
    }

    #[test]
    fn while_it_is_careful_one_goes_after_the_other() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut pace = Pace::default();
        let [late, soon] = [3 * HOUR, HOUR].map(|left| pace.join(now + left).0);
        assert_eq!(pace.admit(late, now), Ok(()));
        pace.throttled(now, &mut rng);
        assert_eq!(pace.admit(late, now + HOUR), Err(None));
        assert_eq!(pace.admit(soon, now + HOUR), Ok(()));
        pace.leave(soon);
        assert_eq!(pace.admit(late, now + HOUR), Ok(()));
    }

    #[test]
    fn whose_keys_end_soon_asks_more_often_and_the_longer_the_outage_the_slower_are_all() {
        let now = Instant::now();
        let paused = |away: Duration, left: Duration, waiting: u32| {
            let (mut pace, mut rng) = (Pace::default(), Rng::with_seed(1));
            let all: Vec<_> = (0..waiting).map(|_| pace.join(now + left).0).collect();
            pace.resumed(away, now, &mut rng);
            let mine = *all.first().unwrap();
            pause(&pace, mine, now)
        };
        for (away, left, waiting, expected) in [
            (OUTAGE, 3 * HOUR, 30, 60),
            (HOUR, 3 * HOUR, 30, 120),
            (9 * HOUR, 4 * HOUR, 30, 240),
            (HOUR, HOUR / 4, 30, 20),
            (HOUR, HOUR / 20, 1, 120),
            (HOUR, Duration::ZERO, 2, 40),
        ] {
            let pause = paused(away, left, waiting);
            assert!(
                about(pause, expected * SECOND),
                "{pause:?}, not {expected} s"
            );
        }
    }

    #[test]
    fn only_a_long_outage_makes_it_careful() {
        let (now, mut rng) = (Instant::now(), Rng::with_seed(1));
        let mut pace = Pace::default();
        let (mine, _) = pace.join(now + HOUR);
        pace.resumed(OUTAGE.saturating_sub(SECOND), now, &mut rng);
        assert_eq!(pace.admit(mine, now), Ok(()));
        pace.resumed(OUTAGE, now, &mut rng);
        assert!(pace.admit(mine, now).is_err());
        let mut next = Pace::default();
        let (mine, _) = next.join(now + HOUR);
        next.restore(pace.save(), now, &mut rng);
        assert!(next.admit(mine, now).is_err());
    }
}
