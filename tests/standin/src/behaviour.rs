//! What the stand-in does wrong on command.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::calls::Endpoint;

/// One way of answering. Several rules may match a call: all of them apply, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Removes the rules of exactly the given scope.
    Normal,
    /// Waits before answering.
    Delay(#[serde(with = "crate::seconds")] Duration),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Cut(CutPoint),
    /// Answers this status.
    Status {
        /// The HTTP status.
        status: u16,
        /// The body; an error in the API's own shape when absent.
        #[serde(default)]
        body: Option<String>,
        /// `Retry-After`, in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// Answers 200 with a body that cannot be used; a key has been minted.
    Malformed(Malformation),
    /// Answers 200 with a correct body padded to 2 MiB.
    TooLarge,
    /// Answers 429 with `Retry-After: 1` beyond this many calls in a second.
    RateLimit {
        /// Calls allowed in each second.
        per_second: u32,
    },
    /// Refuses the POST endpoint with this status; GET goes on.
    RefusePost(u16),
    /// Mints keys whose expiry has passed already.
    AlreadyExpired,
    /// Mints keys that need a session token.
    WithSessionToken,
    /// Writes the expiry in another valid form.
    Expiry(ExpiryForm),
    /// Mints keys of this lifetime, whatever was asked for.
    Lifetime(#[serde(with = "crate::seconds")] Duration),
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutPoint {
    /// Before the body was read; matches only rules without an identity.
    BeforeReading,
    /// After the body was read; no key has been minted.
    AfterReading,
    /// After a key was minted.
    AfterMinting,
}

/// How a 200 is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Malformation {
    /// Zero bytes.
    Empty,
    /// An HTML page.
    NotJson,
    /// The first half of the JSON.
    Truncated,
    /// No secret key in the JSON.
    MissingSecret,
    /// The expiry is no timestamp.
    BadExpiry,
}

/// How an expiry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryForm {
    /// Whole seconds and `Z`.
    #[default]
    Whole,
    /// Nine digits of fraction and `Z`.
    Fraction,
    /// The same instant with the offset `+02:00`.
    Offset,
}

/// Which calls a rule applies to; the default is all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Only this endpoint.
    pub endpoint: Option<Endpoint>,
    /// Only this `sub`: `system:serviceaccount:<namespace>:<name>`.
    pub identity: Option<String>,
}

impl Scope {
    fn covers(&self, endpoint: Endpoint, identity: Option<&str>) -> bool {
        self.endpoint.is_none_or(|wanted| wanted == endpoint)
            && self
                .identity
                .as_deref()
                .is_none_or(|wanted| Some(wanted) == identity)
    }
}

struct Rule {
    scope: Scope,
    behaviour: Behaviour,
    left: Option<u64>,
    window: (Instant, u32),
}

/// The rules in force.
#[derive(Default)]
pub(crate) struct Rules(Mutex<Vec<Rule>>);

impl Rules {
    /// Adds a rule for the next `calls` matching calls, or until [`Behaviour::Normal`].
    pub(crate) fn add(&self, scope: Scope, behaviour: Behaviour, calls: Option<u64>) {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if behaviour == Behaviour::Normal {
            rules.retain(|rule| rule.scope != scope);
            return;
        }
        rules.push(Rule {
            scope,
            behaviour,
            left: calls,
            window: (Instant::now(), 0),
        });
    }

    /// Removes every rule.
    pub(crate) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Tells whether to cut a call whose body has not been read.
    pub(crate) fn cuts_unread(&self, endpoint: Endpoint) -> bool {
        !self
            .take_where(endpoint, None, |behaviour| {
                *behaviour == Behaviour::Cut(CutPoint::BeforeReading)
            })
            .is_empty()
    }

    /// Takes what applies to a call whose body has been read, a rate limit only when exceeded.
    pub(crate) fn take(&self, endpoint: Endpoint, identity: Option<&str>) -> Vec<Behaviour> {
        self.take_where(endpoint, identity, |behaviour| {
            *behaviour != Behaviour::Cut(CutPoint::BeforeReading)
        })
    }

    fn take_where(
        &self,
        endpoint: Endpoint,
        identity: Option<&str>,
        wanted: impl Fn(&Behaviour) -> bool,
    ) -> Vec<Behaviour> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        for rule in rules.iter_mut() {
            if !wanted(&rule.behaviour) || !rule.scope.covers(endpoint, identity) {
                continue;
            }
            if let Behaviour::RateLimit { per_second } = rule.behaviour {
                if rule.window.0.elapsed() >= Duration::from_secs(1) {
                    rule.window = (Instant::now(), 0);
                }
                rule.window.1 = rule.window.1.saturating_add(1);
                if rule.window.1 <= per_second {
                    continue;
                }
            }
            rule.left = rule.left.map(|left| left.saturating_sub(1));
            taken.push(rule.behaviour.clone());
        }
        rules.retain(|rule| rule.left != Some(0));
        taken
    }
}
