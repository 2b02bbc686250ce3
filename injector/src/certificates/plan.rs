//! What is to be done about the certificate: a pure function of what is there and of the time.

use std::time::Duration;

use jiff::Timestamp;

use super::period::{Period, later, signed};

/// What is there, without any key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The authorities in `caBundle`; the first one signs.
    pub(super) authorities: Vec<Period>,
    /// The certificate.
    pub(super) certificate: Period,
    /// Which of the authorities has signed it; `None` also where it is not for our names.
    pub(super) signed_by: Option<usize>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make everything anew.
    Start,
    /// Make a new authority and publish it beside the old one.
    AddAuthority,
    /// Have the first authority sign a new certificate.
    Renew,
    /// Drop all authorities but the first.
    DropOld,
    /// Nothing before this time.
    Wait(Timestamp),
}

/// How far apart the steps of a change are: time for every API server and every replica to see the
/// one before.
pub(super) fn overlap(certificate_lifetime: Duration) -> Duration {
    (certificate_lifetime / 10).clamp(Duration::from_secs(2), Duration::from_hours(1))
}

/// Says what is to be done `now`. `published` says whether `caBundle` was seen to hold the first
/// authority.
pub(super) fn plan(
    facts: Option<&Facts>,
    published: bool,
    now: Timestamp,
    overlap: Duration,
) -> Step {
    let Some(facts) = facts else {
        return Step::Start;
    };
    let Some(&authority) = facts.authorities.first() else {
        return Step::Start;
    };
    if authority.until <= now {
        return Step::Start;
    }
    let certificate = facts.certificate;
    let Some(signed_by) = facts.signed_by else {
        return Step::Renew;
    };
    if certificate.until <= now {
        return Step::Renew;
    }
    let alone = facts.authorities.len() == 1;
    let authority_due = authority.left(3);
    if alone && authority_due <= now {
        return Step::AddAuthority;
    }
    let due = if signed_by == 0 {
        certificate.left(3)
    } else {
        authority.from
    };
    if due <= now {
        let settled = later(authority.from, signed(overlap));
        // Better a certificate that some API server does not trust yet than none.
        let urgent = certificate.left(6);
        return if (published && settled <= now) || urgent <= now {
            Step::Renew
        } else if settled <= now {
            Step::Wait(urgent)
        } else {
            Step::Wait(settled.min(urgent))
        };
    }
    if alone {
        return Step::Wait(due.min(authority_due));
    }
    let droppable = later(certificate.from, signed(overlap));
    if droppable <= now {
        Step::DropOld
    } else {
        Step::Wait(droppable.min(due))
    }
}
