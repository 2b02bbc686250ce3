//! For whom an exchange is made.

/// How soon an exchange is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A request is held open for it.
    Held,
    /// Nobody waits: a renewal, or a first exchange whose callers have hung up.
    Background,
}
