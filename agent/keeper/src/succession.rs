//! Taking the place of the keeper before.

use std::time::{Duration, Instant};

/// How long the keeper before may take to hand everything over. Thousands of listeners take some
/// ten milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a keeper whose place is taken waits before it looks whether that is still so.
const PAUSE: Duration = Duration::from_millis(500);

/// How far a keeper is on its way to the published path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Succession {
    /// It looks for the keeper before, at this time.
    Looking(Instant),
    /// The keeper before hands over, until this time at most.
    Taking(Instant),
    /// Agents and the next keeper find it.
    Published,
}

impl Succession {
    pub(crate) const fn new(now: Instant) -> Self {
        Self::Looking(now)
    }

    /// The keeper before has been found.
    pub(crate) fn found(now: Instant) -> Self {
        Self::Taking(now + PATIENCE)
    }

    /// Somebody else has the place of this keeper's Pod.
    pub(crate) fn later(now: Instant) -> Self {
        Self::Looking(now + PAUSE)
    }

    /// When something is to be done without being told.
    pub(crate) const fn due(self) -> Option<Instant> {
        match self {
            Self::Looking(at) | Self::Taking(at) => Some(at),
            Self::Published => None,
        }
    }
}
