//! How far time has come, whatever the wall clock says since.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use shared::clock::Clock;
use tokio::time::Instant;

/// The wall clock as if it were never set back: from the latest time that was seen it goes on by
/// the monotonic clock.
///
/// For what may be used *from* a time on alone. A clock that was too far ahead for a while makes
/// this too lenient, for as long as an agent hands its memory on.
#[derive(Debug)]
pub(super) struct Furthest {
    clock: Clock,
    seen: Mutex<(Instant, Timestamp)>,
}

impl Furthest {
    pub(super) fn new(clock: Clock) -> Self {
        let seen = Mutex::new((Instant::now(), clock.now()));
        Self { clock, seen }
    }

    /// How far time has come.
    pub(super) fn now(&self) -> Timestamp {
        self.at_least(self.clock.now())
    }

    /// The same, when it is known to have come as far as `at`.
    pub(super) fn at_least(&self, at: Timestamp) -> Timestamp {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (since, then) = *seen;
        let gone_on = then.saturating_add(now.saturating_duration_since(since));
        let furthest = gone_on.unwrap_or(Timestamp::MAX).max(at);
        *seen = (now, furthest);
        furthest
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_goes_on_from_the_latest_that_was_seen_while_the_clock_is_set_back() {
        let clock = Clock::anchored(Timestamp::UNIX_EPOCH);
        let furthest = Furthest::new(clock.clone());
        let seconds = |furthest: &Furthest| furthest.now().as_second();
        clock.step(SignedDuration::from_hours(-1));
        advance(Duration::from_secs(90)).await;
        assert_eq!(seconds(&furthest), 90);
        clock.step(SignedDuration::from_hours(2));
        assert_eq!(seconds(&furthest), 90 + 3600);
        clock.step(SignedDuration::from_hours(-1));
        advance(Duration::from_secs(10)).await;
        assert_eq!(seconds(&furthest), 100 + 3600);
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_agent_has_seen_counts_if_it_is_later() {
        let furthest = Furthest::new(Clock::anchored(Timestamp::UNIX_EPOCH));
        for (at, then) in [(50, 50), (20, 50)] {
            let at = Timestamp::from_second(at).unwrap();
            assert_eq!(furthest.at_least(at).as_second(), then);
        }
        assert_eq!(furthest.now().as_second(), 50);
    }
}
