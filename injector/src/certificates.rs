//! The serving certificate: where it comes from, and how it is renewed without a lost review.
//!
//! Managed: a certificate authority and a certificate in one Secret, which all replicas share.
//! `plan` says what is to be done and knows no API; [`Managed`] does it. An authority is changed
//! in steps, an overlap apart: the new one is published beside the old one in `caBundle`, then it
//! signs the certificate, then the old one is dropped.

mod authority;
mod bundle;
mod directory;
mod managed;
mod material;
mod period;
mod plan;
mod secret;
mod status;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::metrics::Metrics;
use crate::tls::{Pair, Slot};

pub use self::directory::Directory;
pub use self::managed::Managed;
pub use self::status::Status;

/// Serves `pair`, which expires then, from the next handshake on, and says so.
fn put_in_service(pair: Pair, expires: Timestamp, slot: &Slot, metrics: &Metrics) {
    slot.load(pair);
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds since 1970 fit for ages"
    )]
    metrics.certificate_expiry.set(expires.as_second() as f64);
    tracing::info!(%expires, "serving a certificate from now on");
}
