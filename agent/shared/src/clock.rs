//! Wall-clock time as a value that is passed in, so that tests can move it.
//!
//! Expiry times are wall-clock times. Timers are `tokio::time` alone; the clock that tests use
//! follows them, so that pausing and advancing tokio's time moves both.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the wall-clock time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Anchored {
        start: Timestamp,
        since: Instant,
        offset_ms: Arc<AtomicI64>,
    },
}

impl Clock {
    /// Follows the operating system's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Starts at `start` and from there follows tokio's time, paused or not.
    pub fn anchored(start: Timestamp) -> Self {
        let offset_ms = Arc::new(AtomicI64::new(0));
        Self(Source::Anchored {
            start,
            since: Instant::now(),
            offset_ms,
        })
    }

    /// The wall-clock time now. Not monotonic.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place that reads the system clock"
            )]
            Source::System => Timestamp::now(),
            Source::Anchored {
                start,
                since,
                offset_ms,
            } => {
                let elapsed =
                    SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
                let offset = SignedDuration::from_millis(offset_ms.load(Ordering::Relaxed));
                start
                    .saturating_add(elapsed.saturating_add(offset))
                    .unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// Sets an anchored clock forth, or back when `by` is negative, as an administrator or NTP
    /// would. A system clock is not touched.
    pub fn step(&self, by: SignedDuration) {
        if let Source::Anchored { offset_ms, .. } = &self.0 {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            offset_ms.fetch_add(by, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_anchored_clock_follows_tokios_paused_time_and_steps() {
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        let clock = Clock::anchored(start);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().as_second(), 1_700_000_090);
        clock.step(SignedDuration::from_hours(-1));
        assert_eq!(clock.now().as_second(), 1_700_000_090 - 3600);
    }
}
