//! What the rest of the process may know of the certificate.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether `caBundle` was in place once. After that the injector stays ready: to take it away from
/// its Service would not help anybody.
#[derive(Debug, Default)]
pub struct Status(AtomicBool);

impl Status {
    /// Whether the API server was seen to trust us.
    pub fn is_published(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The API server trusts us.
    pub(super) fn published(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
