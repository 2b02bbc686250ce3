//! The access keys that were minted.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::{clock, random};

/// How long an expired key is still known as expired.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// One access key.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) session_token: Option<String>,
    pub(crate) principal: String,
    pub(crate) expires: Timestamp,
}

/// The minted keys by id.
#[derive(Default)]
pub(crate) struct Keys(RwLock<HashMap<String, Key>>);

impl Keys {
    /// Mints a key for `principal`; a `lifetime` of `None` makes one that expired a minute ago.
    pub(crate) fn mint(
        &self,
        principal: &str,
        lifetime: Option<Duration>,
        with_session_token: bool,
    ) -> Key {
        let now = clock::now();
        let lifetime = lifetime.map_or(SignedDuration::from_mins(-1), |lifetime| {
            SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::from_hours(12))
        });
        let key = Key {
            id: format!("CW{}", random::hex(9).to_uppercase()),
            secret: format!("cwo{}", random::hex(20)),
            session_token: with_session_token.then(|| random::hex(32)),
            principal: principal.to_owned(),
            expires: now.saturating_add(lifetime).unwrap_or(Timestamp::MAX),
        };
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, key| now.duration_since(key.expires) < REMEMBERED);
        keys.insert(key.id.clone(), key.clone());
        key
    }

    /// Finds a key, expired or not.
    pub(crate) fn find(&self, id: &str) -> Option<Key> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(id).cloned()
    }
}
