//! The one place of this crate that reads the wall clock.

use jiff::Timestamp;

/// Reads the wall clock: the stand-in talks to other processes, so it lives in real time.
#[expect(
    clippy::disallowed_methods,
    reason = "the stand-in's only source of wall-clock time"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
