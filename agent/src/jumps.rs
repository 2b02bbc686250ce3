//! Notices that the node's wall clock was set, and says so: what else a person sees of it are tokens
//! and keys that seem to end, or to begin, at the wrong time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use shared::clock::Clock;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::metrics::{ClockJump, Metrics};

/// From one comparison of the two clocks to the next.
const INTERVAL: Duration = Duration::from_secs(10);

/// NTP slews both clocks alike, and steps the wall clock by whatever it is off; below this nothing
/// that is judged by it changes.
const LEAST: SignedDuration = SignedDuration::from_secs(5);

/// Compares the wall clock with the monotonic one, until `shutdown`.
///
/// # Cancel safety
/// Safe: a jump around the drop goes unnoticed.
pub async fn watch(clock: Clock, metrics: Metrics, shutdown: CancellationToken) {
    let mut seen = (Instant::now(), clock.now());
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let now = (Instant::now(), clock.now());
        let jumped = jump(seen, now);
        seen = now;
        if jumped.abs() < LEAST {
            continue;
        }
        let (direction, what) = if jumped.is_positive() {
            (
                ClockJump::Forth,
                "was set forth, or the node slept: tokens and keys that had less left than that have \
                 ended, others go on",
            )
        } else {
            (
                ClockJump::Back,
                "was set back: tokens and keys that were good go on",
            )
        };
        metrics.clock_jumps.of(direction).inc();
        tracing::warn!(seconds = jumped.as_secs(), "the node's clock {what}");
    }
}

/// How far the wall clock went beyond the monotonic one; negative when it fell behind.
fn jump(seen: (Instant, Timestamp), now: (Instant, Timestamp)) -> SignedDuration {
    let passed = now.0.saturating_duration_since(seen.0);
    let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
    now.1.duration_since(seen.1).saturating_sub(passed)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_jump_is_counted_once_by_its_direction_and_what_ntp_does_all_day_is_not() {
        let clock = Clock::anchored(Timestamp::UNIX_EPOCH);
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let counted = || {
            let of = |direction| metrics.clock_jumps.of(direction).get();
            (of(ClockJump::Forth), of(ClockJump::Back))
        };
        let (watched, shutdown) = (clock.clone(), CancellationToken::new());
        let watch = tokio::spawn(watch(watched, metrics.clone(), shutdown.clone()));
        for (step, expected) in [
            (0, (0, 0)),
            (4, (0, 0)),
            (-4, (0, 0)),
            (3600, (1, 0)),
            (-3600, (1, 1)),
            (-3600, (1, 2)),
            (3600, (2, 2)),
        ] {
            sleep(INTERVAL).await;
            clock.step(SignedDuration::from_secs(step));
            sleep(INTERVAL * 3).await;
            assert_eq!(counted(), expected, "after a step of {step} s");
        }
        shutdown.cancel();
        watch.await.unwrap();
    }
}
