//! Every call to the issuer and to the API, for tests to count.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;

/// How many calls are remembered; older ones are forgotten first.
const REMEMBERED: usize = 100_000;

/// What was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// The OIDC exchange, `POST …/temporary-credentials/oidc`.
    Post,
    /// The container-credentials endpoint, `GET …/temporary-credentials/oidc/{orgId}`.
    Get,
    /// The issuer's signing keys.
    Jwks,
    /// The issuer's discovery document.
    Discovery,
    /// Any other path of the API or the issuer.
    Other,
}

/// One call, noted when its body has been read.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// When it came.
    pub at: Timestamp,
    /// What was called.
    pub endpoint: Endpoint,
    /// The `sub` its token claims, verified or not.
    pub identity: Option<String>,
}

/// The calls so far, oldest first.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Calls {
    /// All calls, also those forgotten.
    pub total: u64,
    /// The calls themselves, at most the newest 100,000.
    pub entries: VecDeque<Call>,
}

impl Calls {
    /// Counts the calls of one endpoint.
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.entries
            .iter()
            .filter(|call| call.endpoint == endpoint)
            .count()
    }

    /// Counts attempts to exchange, by POST and GET together.
    pub fn exchanges(&self) -> usize {
        self.count(Endpoint::Post) + self.count(Endpoint::Get)
    }

    /// Counts attempts to exchange of one identity (`sub`).
    pub fn exchanges_of(&self, identity: &str) -> usize {
        self.entries
            .iter()
            .filter(|call| matches!(call.endpoint, Endpoint::Post | Endpoint::Get))
            .filter(|call| call.identity.as_deref() == Some(identity))
            .count()
    }
}

/// Where calls are noted.
#[derive(Default)]
pub(crate) struct CallLog(Mutex<Calls>);

impl CallLog {
    /// Notes one call.
    pub(crate) fn note(&self, endpoint: Endpoint, identity: Option<String>) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.total += 1;
        if calls.entries.len() == REMEMBERED {
            calls.entries.pop_front();
        }
        calls.entries.push_back(Call {
            at: clock::now(),
            endpoint,
            identity,
        });
    }

    /// Copies what was noted.
    pub(crate) fn snapshot(&self) -> Calls {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Calls::default();
    }
}
