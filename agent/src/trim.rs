//! Gives back to the kernel what storms of connections have left behind.
//!
//! glibc gives back memory that was freed at the end of its heap alone: after 10,000 connections at once
//! 107 MB stayed with an agent that needs 5, among them the little that lives on (`make bench`).

#![expect(unsafe_code, reason = "glibc's own function has no safe form")]

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// A look at a heap of a few megabytes takes some microseconds.
const INTERVAL: Duration = Duration::from_secs(30);

/// Gives freed memory back every 30 s, until `shutdown`.
///
/// # Cancel safety
/// Safe.
pub async fn run(shutdown: CancellationToken) {
    let forever = async {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A large heap takes milliseconds, and its thread must not be one that answers.
            let _ = spawn_blocking(trim).await;
        }
    };
    shutdown.run_until_cancelled(forever).await;
}

fn trim() {
    // SAFETY: malloc_trim(3) takes no pointer, and locks what it looks at.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
        kibibytes.parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn memory_that_is_free_below_what_lives_on_is_given_back() {
        const PIECE: usize = 8 * 1024;
        const PIECES: usize = 8_000;
        let mut pieces: Vec<Box<[u8]>> = (0..PIECES)
            .map(|_| vec![1; PIECE].into_boxed_slice())
            .collect();
        // The last one lives on, and glibc keeps all below it.
        let last = pieces.pop();
        drop(pieces);
        let before = resident();
        trim();
        let after = resident();
        assert!(
            before.saturating_sub(after) > PIECE * PIECES / 2,
            "{before} bytes became {after}"
        );
        drop(last);
    }
}
