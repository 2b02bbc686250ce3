//! A bound on the log lines that Pods can cause.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::time::Instant;

/// How many lines a call site may log in one [`WINDOW`].
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(5);

/// Lets 10 lines pass in 5 s. One for each call site; [`throttled!`](crate::throttled) makes it.
#[derive(Debug)]
pub struct Throttle(Mutex<Window>);

#[derive(Debug)]
struct Window {
    since: Option<Instant>,
    lines: u32,
    held_back: u64,
}

impl Throttle {
    /// Makes one that has let nothing pass yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Window {
            since: None,
            lines: 0,
            held_back: 0,
        }))
    }

    /// Asks for one line. Gives the number of lines held back since the last one that passed, or
    /// nothing where this one is held back, which counts in `suppressed`.
    pub fn admit(&self, suppressed: &IntCounter) -> Option<u64> {
        let now = Instant::now();
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.since.is_none_or(|since| now - since >= WINDOW) {
            window.since = Some(now);
            window.lines = 0;
        }
        if window.lines >= LINES {
            window.held_back += 1;
            suppressed.inc();
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.held_back))
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

/// Logs at most 10 lines in 5 s from this call site; the first line after that comes with one
/// that says how many were held back.
///
/// Takes the [`IntCounter`] of lines held back, the level, and what `tracing` takes.
#[macro_export]
macro_rules! throttled {
    ($suppressed:expr, $level:ident, $($line:tt)+) => {{
        static THROTTLE: $crate::telemetry::Throttle = $crate::telemetry::Throttle::new();
        if let Some(held_back) = THROTTLE.admit($suppressed) {
            if held_back > 0 {
                ::tracing::$level!(held_back, "lines like the next one were held back");
            }
            ::tracing::$level!($($line)+);
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_lines_pass_in_five_seconds_and_the_rest_are_counted() {
        let suppressed = IntCounter::new("suppressed", "lines").unwrap();
        let throttle = Throttle::new();
        let passed = (0..25)
            .filter(|_| throttle.admit(&suppressed).is_some())
            .count();
        assert_eq!((passed, suppressed.get()), (10, 15));

        tokio::time::advance(WINDOW).await;
        assert_eq!(throttle.admit(&suppressed), Some(15));
        assert_eq!(throttle.admit(&suppressed), Some(0), "told once");
    }
}
