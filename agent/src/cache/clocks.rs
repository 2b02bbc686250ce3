//! The two clocks at one moment, and what each shows when the other shows something.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::held::remaining;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
}

impl Clocks {
    /// What the wall clock shows at `instant`.
    pub(super) fn wall_at(self, instant: Instant) -> Timestamp {
        let since = |later: Instant, earlier: Instant| -> Duration {
            later.saturating_duration_since(earlier)
        };
        let ahead = self.wall.saturating_add(since(instant, self.now));
        let ahead = ahead.unwrap_or(Timestamp::MAX);
        ahead
            .saturating_sub(since(self.now, instant))
            .unwrap_or(Timestamp::MIN)
    }

    /// What the monotonic clock shows when the wall clock shows `at`; now for what has passed.
    pub(super) fn instant_at(self, at: Timestamp) -> Instant {
        let left = remaining(at, self.wall);
        // What no clock can reach is as good as a century.
        let far = Duration::from_hours(24 * 365 * 100);
        self.now.checked_add(left).unwrap_or(self.now + far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_instant_is_told_by_the_wall_clock_of_the_moment() {
        let wall = Timestamp::from_second(1_000).unwrap();
        let now = Instant::now() + Duration::from_secs(100);
        let moment = Clocks { now, wall };
        for (offset, second) in [(0, 900), (100, 1_000), (160, 1_060)] {
            let instant = Instant::now() + Duration::from_secs(offset);
            assert_eq!(moment.wall_at(instant).as_second(), second);
        }
    }
}
