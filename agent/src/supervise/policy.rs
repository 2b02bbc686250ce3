//! What happens after a worker's end. Pure: it is told the times.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use shared::flags::USAGE;
use tokio::time::Instant;

/// A worker that ends sooner has not worked: what stopped it is probably still there.
const QUICK: Duration = Duration::from_secs(1);
/// Before the first restart after a quick crash; doubles with each one after it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After so many quick crashes in a row nothing is to be hoped from another try.
const QUICK_CRASHES: u32 = 10;
/// So many ends in [`WINDOW`] are steady crashing, however long each worker lived.
const ENDS: usize = 30;
const WINDOW: Duration = Duration::from_mins(1);

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with this exit code.
    Exited(u8),
    /// By this signal.
    Killed(u8),
    /// It could not be started.
    NotStarted,
}

impl End {
    /// The exit code by which shells and the kubelet know it.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => signal.saturating_add(128),
            Self::NotStarted => 1,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Killed(signal) => write!(f, "signal {signal}"),
            Self::NotStarted => f.write_str("not started"),
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start another worker after this time.
    Restart {
        /// Zero after a worker that has worked.
        pause: Duration,
    },
    /// End with the worker's code: it has ended as it should, or another try would end the same.
    Done,
    /// End with the worker's code, and leave the next try to the kubelet.
    GiveUp(Steady),
}

/// Why another try is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steady {
    /// [`QUICK_CRASHES`] in a row.
    Quick,
    /// [`ENDS`] within [`WINDOW`].
    Often,
}

impl fmt::Display for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quick => write!(
                f,
                "{QUICK_CRASHES} crashes in a row, each within {} s of the start",
                QUICK.as_secs()
            ),
            Self::Often => write!(f, "{ENDS} crashes within {} s", WINDOW.as_secs()),
        }
    }
}

/// What is remembered of the workers so far.
#[derive(Debug, Default)]
pub(super) struct Policy {
    quick: u32,
    /// The last [`ENDS`] of them.
    ends: VecDeque<Instant>,
    restarts: u64,
}

impl Policy {
    /// How many workers were started after the first one.
    pub(super) const fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Decides after the `end` of a worker that lived from `started` to `ended`.
    pub(super) fn decide(&mut self, started: Instant, ended: Instant, end: End) -> Verdict {
        if matches!(end, End::Exited(0 | USAGE)) {
            return Verdict::Done;
        }
        self.quick = if ended - started < QUICK {
            self.quick + 1
        } else {
            0
        };
        if self.ends.len() == ENDS {
            self.ends.pop_front();
        }
        self.ends.push_back(ended);
        if self.quick >= QUICK_CRASHES {
            return Verdict::GiveUp(Steady::Quick);
        }
        let first = self.ends.front().copied().unwrap_or(ended);
        if self.ends.len() == ENDS && ended - first <= WINDOW {
            return Verdict::GiveUp(Steady::Often);
        }
        self.restarts += 1;
        let pause = self.quick.checked_sub(1).map_or(Duration::ZERO, |before| {
            FIRST_PAUSE.saturating_mul(1 << before).min(LONGEST_PAUSE)
        });
        Verdict::Restart { pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: End = End::Exited(1);

    /// Crashes of workers that live `life` each and are started as soon as they may; what the last
    /// verdict was, how many workers there were, and how long it took.
    fn crashing(life: Duration) -> (Verdict, usize, Duration) {
        let first = Instant::now();
        let (mut policy, mut now) = (Policy::default(), first);
        for workers in 1..1_000 {
            let ended = now + life;
            match policy.decide(now, ended, CRASH) {
                Verdict::Restart { pause } => now = ended + pause,
                other => return (other, workers, ended - first),
            }
        }
        (
            Verdict::Restart {
                pause: Duration::ZERO,
            },
            1_000,
            now - first,
        )
    }

    fn pauses(lives: &[u64]) -> Vec<u128> {
        let (mut policy, now) = (Policy::default(), Instant::now());
        let pause = |life: &u64| match policy.decide(now, now + Duration::from_millis(*life), CRASH)
        {
            Verdict::Restart { pause } => pause.as_millis(),
            other => panic!("{other:?}"),
        };
        lives.iter().map(pause).collect()
    }

    #[test]
    fn a_worker_that_has_worked_is_started_again_at_once() {
        assert_eq!(pauses(&[1_000, 60_000, 3_600_000]), [0, 0, 0]);
    }

    #[test]
    fn quick_crashes_pause_twice_as_long_each_up_to_a_second_until_one_worker_works() {
        let quick = [0, 999, 0, 0, 0, 0, 0, 5_000, 10];
        assert_eq!(
            pauses(&quick),
            [50, 100, 200, 400, 800, 1_000, 1_000, 0, 50]
        );
    }

    #[test]
    fn ten_quick_crashes_in_a_row_are_left_to_the_kubelet_within_seconds() {
        let (verdict, workers, took) = crashing(Duration::from_millis(10));
        assert_eq!((verdict, workers), (Verdict::GiveUp(Steady::Quick), 10));
        assert!(took < Duration::from_secs(7), "{took:?}");
    }

    #[test]
    fn thirty_crashes_in_a_minute_are_left_to_the_kubelet() {
        let (verdict, workers, _) = crashing(Duration::from_secs(2));
        assert_eq!((verdict, workers), (Verdict::GiveUp(Steady::Often), 30));
    }

    #[test]
    fn a_crash_every_few_seconds_is_put_up_with() {
        let (verdict, workers, _) = crashing(Duration::from_millis(2_100));
        assert!(
            matches!(verdict, Verdict::Restart { .. }),
            "{verdict:?} after {workers}"
        );
    }

    #[test]
    fn success_and_a_bad_configuration_are_final_and_any_other_end_is_not() {
        let now = Instant::now();
        for (end, code, is_final) in [
            (End::Exited(0), 0, true),
            (End::Exited(64), 64, true),
            (End::Exited(1), 1, false),
            (End::Exited(143), 143, false),
            (End::Killed(9), 137, false),
            (End::Killed(11), 139, false),
            (End::NotStarted, 1, false),
        ] {
            let verdict = Policy::default().decide(now, now, end);
            assert_eq!(verdict == Verdict::Done, is_final, "{end}");
            assert_eq!(end.code(), code, "{end}");
        }
    }

    #[test]
    fn restarts_are_counted() {
        let (mut policy, now) = (Policy::default(), Instant::now());
        for restarts in 1..=3 {
            policy.decide(now, now + QUICK, End::Killed(9));
            assert_eq!(policy.restarts(), restarts);
        }
        policy.decide(now, now, End::Exited(0));
        assert_eq!(policy.restarts(), 3);
    }
}
