//! When an identity may be tried again after a failed exchange.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::clocks::Clocks;
use super::saved::SavedFailures;
use super::urgency::Urgency;
use crate::exchange::ExchangeError;

/// A `Retry-After` of hours would outlive keys that could have been had.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
/// A 503 says that nothing was minted, so a held request asks again after this at the latest.
const LONGEST_RETRY_AFTER_HELD: Duration = Duration::from_secs(5);

/// The schedule of one identity. Each failure in a row doubles the wait, up to the bound of its
/// kind; jitter only lengthens it, by a fifth at most.
///
/// | failure | while a request is held | background |
/// | --- | --- | --- |
/// | unavailable | 100 ms to 1 s | 1 s to 60 s |
/// | throttled | `Retry-After`, else 1 s to 5 min; never below 1 s | the same, and 1 s to 60 s |
/// | uncertain | 5 s from when it was sent, and 1 s from its end | 5 s to 5 min |
/// | refused | at once (refusals are remembered elsewhere) | 10 s to 5 min |
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    not_before: Option<NotBefore>,
}

#[derive(Clone, Copy, Debug)]
struct NotBefore {
    held: Instant,
    background: Instant,
}

impl Backoff {
    /// Takes note of a failure that began at `started` and ended at `now`.
    pub(super) fn failed(
        &mut self,
        error: &ExchangeError,
        (started, now): (Instant, Instant),
        rng: &mut Rng,
    ) {
        self.failures = self.failures.saturating_add(1);
        let doubled = |first: Duration, longest: Duration| {
            let factor = 1_u32 << (self.failures - 1).min(16);
            first.saturating_mul(factor).min(longest)
        };
        let secs = Duration::from_secs;
        let (held, background) = match error {
            ExchangeError::Unavailable { retry_after, .. } => {
                let asked = retry_after.unwrap_or_default();
                let held = doubled(Duration::from_millis(100), secs(1));
                let background = doubled(secs(1), secs(60));
                (
                    held.max(asked.min(LONGEST_RETRY_AFTER_HELD)),
                    background.max(asked.min(LONGEST_RETRY_AFTER)),
                )
            }
            ExchangeError::Throttled { retry_after, .. } => {
                let wait = retry_after.unwrap_or_else(|| doubled(secs(1), LONGEST_RETRY_AFTER));
                // A `Retry-After: 0` must not make a loop of who is throttled.
                let held = wait.clamp(secs(1), LONGEST_RETRY_AFTER);
                (held, held.max(doubled(secs(1), secs(60))))
            }
            ExchangeError::Uncertain { .. } => {
                // A call that hung has waited already: one that timed out is tried once more
                // within the hold limit of those who wait.
                let waited = now.saturating_duration_since(started);
                let held = secs(5).saturating_sub(waited).max(secs(1));
                (held, doubled(secs(5), secs(300)))
            }
            ExchangeError::Refused { .. } => (Duration::ZERO, doubled(secs(10), secs(300))),
        };
        let jitter = 1.0 + 0.2 * rng.f64();
        self.not_before = Some(NotBefore {
            held: now + held.mul_f64(jitter),
            background: now + background.mul_f64(jitter),
        });
    }

    /// What another agent is to know of the failures; `None` when there are none.
    pub(super) fn save(&self, clocks: Clocks) -> Option<SavedFailures> {
        let not_before = self.not_before?;
        Some(SavedFailures {
            count: self.failures,
            held: clocks.wall_at(not_before.held),
            background: clocks.wall_at(not_before.background),
        })
    }

    /// Goes on where another agent was.
    pub(super) fn restore(saved: SavedFailures, clocks: Clocks) -> Self {
        Self {
            failures: saved.count,
            not_before: Some(NotBefore {
                held: clocks.instant_at(saved.held),
                background: clocks.instant_at(saved.background),
            }),
        }
    }

    /// Whether the last exchange failed.
    pub(super) const fn is_retry(&self) -> bool {
        self.failures > 0
    }

    /// When the next exchange may start; [`None`] is at once.
    pub(super) fn not_before(&self, urgency: Urgency) -> Option<Instant> {
        self.not_before.map(|times| match urgency {
            Urgency::Held => times.held,
            Urgency::Background => times.background,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: &str, retry_after: Option<u64>) -> ExchangeError {
        let retry_after = retry_after.map(Duration::from_secs);
        let message = String::new();
        match kind {
            "unavailable" => ExchangeError::Unavailable {
                retry_after,
                message,
            },
            "throttled" => ExchangeError::Throttled {
                retry_after,
                message,
            },
            "uncertain" => ExchangeError::Uncertain { message },
            _ => ExchangeError::Refused {
                status: 403,
                message,
            },
        }
    }

    /// The waits, in ms, after the first, the second and the twentieth failure in a row.
    fn waits(error: &ExchangeError, urgency: Urgency) -> [u128; 3] {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let mut rng = Rng::with_seed(7);
        let mut all = Vec::new();
        for _ in 0..20 {
            backoff.failed(error, (now, now), &mut rng);
            let at = backoff.not_before(urgency).unwrap();
            all.push(at.saturating_duration_since(now).as_millis());
        }
        [all[0], all[1], all[19]]
    }

    #[test]
    fn waits_double_up_to_the_bound_of_their_kind_and_jitter_only_lengthens() {
        use Urgency::{Background, Held};
        for (kind, retry_after, urgency, expected) in [
            ("unavailable", None, Held, [100, 200, 1_000]),
            ("unavailable", None, Background, [1_000, 2_000, 60_000]),
            ("unavailable", Some(30), Held, [5_000, 5_000, 5_000]),
            (
                "unavailable",
                Some(30),
                Background,
                [30_000, 30_000, 60_000],
            ),
            ("throttled", Some(30), Held, [30_000, 30_000, 30_000]),
            (
                "throttled",
                Some(86_400),
                Background,
                [300_000, 300_000, 300_000],
            ),
            ("throttled", None, Held, [1_000, 2_000, 300_000]),
            ("throttled", Some(0), Held, [1_000, 1_000, 1_000]),
            ("throttled", Some(0), Background, [1_000, 2_000, 60_000]),
            ("uncertain", None, Held, [5_000, 5_000, 5_000]),
            ("uncertain", None, Background, [5_000, 10_000, 300_000]),
            ("refused", None, Held, [0, 0, 0]),
            ("refused", None, Background, [10_000, 20_000, 300_000]),
        ] {
            let waits = waits(&error(kind, retry_after), urgency);
            for (wait, least) in waits.into_iter().zip(expected) {
                let within = wait >= least && wait <= least + least / 5;
                assert!(within, "{kind} {retry_after:?} {urgency:?}: {waits:?}");
            }
        }
    }
    #[test]
    fn the_time_that_an_uncertain_call_hung_counts_for_who_waits() {
        let (started, mut rng) = (Instant::now(), Rng::with_seed(7));
        for (hung, least) in [(0, 5_000), (3, 2_000), (4, 1_000), (6, 1_000)] {
            let now = started + Duration::from_secs(hung);
            let mut backoff = Backoff::default();
            backoff.failed(&error("uncertain", None), (started, now), &mut rng);
            let at = backoff.not_before(Urgency::Held).unwrap();
            let wait = at.saturating_duration_since(now).as_millis();
            assert!(
                wait >= least && wait <= least + least / 5,
                "{hung} s: {wait} ms"
            );
        }
    }
}
