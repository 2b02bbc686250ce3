//! From when and until when a certificate is good.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;

/// How far certificates are backdated: our clock may be an hour ahead when we make one, which is then
/// served for months.
pub(super) const BACKDATED: Duration = Duration::from_hours(2);

/// The life of a certificate that was made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    /// When it was made.
    pub(super) from: Timestamp,
    /// When it expires.
    pub(super) until: Timestamp,
}

impl Period {
    /// Reads the period of any certificate; `None` where the certificate makes no sense.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = parsed.validity();
        let not_before = Timestamp::from_second(validity.not_before.timestamp()).ok()?;
        Some(Self {
            from: not_before.checked_add(signed(BACKDATED)).ok()?,
            until: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }

    /// The moment when one `part`th of its life is left.
    pub(super) fn left(&self, part: i32) -> Timestamp {
        let life = self.until.duration_since(self.from);
        later(self.until, -(life / part))
    }
}

pub(super) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// `time` and `by`; the end of all time where that is later.
pub(super) fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(time)
}
