//! What a cache hands on to the next agent: credentials, when they are due, the tokens that renew
//! them, and how the issuer was when it was last asked.
//!
//! Times are those of the wall clock: a monotonic clock means nothing to another process after a
//! reboot, and little to a person. Whatever has ended meanwhile is left out when it is read.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A cache, written and read. Its only form outside this process is sealed memory.
#[derive(Deserialize, Serialize)]
pub struct Saved<'a> {
    #[serde(borrow)]
    pub(super) identities: Vec<SavedIdentity<'a>>,
    pub(super) gate: SavedGate,
}

impl Saved<'_> {
    /// How many identities have credentials in it.
    pub fn with_credentials(&self) -> usize {
        let all = self.identities.iter();
        all.filter(|one| one.credentials.is_some()).count()
    }
}

#[derive(Deserialize, Serialize)]
pub(super) struct SavedIdentity<'a> {
    #[serde(borrow)]
    pub(super) issuer: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) subject: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) audience: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) credentials: Option<SavedCredentials<'a>>,
    #[serde(borrow)]
    pub(super) tokens: Vec<SavedToken<'a>>,
    pub(super) failures: Option<SavedFailures>,
    /// POST is refused to it until then, and GET is not.
    #[serde(default)]
    pub(super) on_get_until: Option<Timestamp>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct SavedCredentials<'a> {
    #[serde(borrow)]
    pub(super) access_key_id: Cow<'a, str>,
    pub(super) expires_at: Timestamp,
    /// By the clock that leaves less.
    pub(super) ends_at: Timestamp,
    pub(super) renew_at: Timestamp,
    #[serde(borrow)]
    pub(super) body: &'a RawValue,
}

#[derive(Deserialize, Serialize)]
pub(super) struct SavedToken<'a> {
    #[serde(borrow)]
    pub(super) pod_uid: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) pod_name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) namespace: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) service_account: Cow<'a, str>,
    pub(super) expires_at: Timestamp,
    /// A JWT has nothing that JSON would escape, so it is never copied on the way.
    pub(super) token: &'a str,
}

/// The failures in a row of one identity, and when it may be tried again.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub(super) struct SavedFailures {
    pub(super) count: u32,
    pub(super) held: Timestamp,
    pub(super) background: Timestamp,
}

/// What all identities share. A restart must not give a struggling issuer a fresh burst.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub(super) struct SavedGate {
    pub(super) breaker_open: bool,
    pub(super) retries_left: f64,
    pub(super) throttled_until: Option<Timestamp>,
    #[serde(default)]
    pub(super) pace: SavedPace,
}

/// How careful an agent was with exchanges that nobody waits for.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
pub(super) struct SavedPace {
    pub(super) caution: f64,
    pub(super) window: Option<Duration>,
}
