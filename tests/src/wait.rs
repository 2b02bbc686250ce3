//! Waiting for a condition, with a deadline.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::bail;

/// Asks every 10 ms until `condition` holds.
///
/// # Errors
/// When it does not hold within `deadline`; the error says what was waited for.
pub fn until(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let started = tokio::time::Instant::now();
    // A channel that nobody sends on: a pause that is no sleep of the runtime's thread.
    let (_sender, never) = mpsc::channel::<()>();
    while !condition() {
        if started.elapsed() > deadline {
            bail!("waited {deadline:?} in vain until {what}");
        }
        let _ = never.recv_timeout(Duration::from_millis(10));
    }
    Ok(())
}
