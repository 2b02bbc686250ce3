//! What a person may see of the cache: no key, no id of one, no token.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Cache;
use crate::exchange::Exchange;
use crate::workload::Identity;

/// The cache at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Whether the circuit breaker keeps calls from CoreWeave's API.
    pub is_breaker_open: bool,
    /// When the next probe of an open breaker is due at the latest, if none is out.
    pub next_probe_at: Option<Timestamp>,
    /// Until when CoreWeave asked for a pause of renewals.
    pub throttled_until: Option<Timestamp>,
    /// Exchanges under way.
    pub exchanges: usize,
    /// How many may be.
    pub max_exchanges: usize,
    /// In the order of their names.
    pub identities: Vec<IdentityView>,
}

/// One identity at one moment.
#[derive(Clone, Debug)]
pub struct IdentityView {
    /// Who it is.
    pub identity: Identity,
    /// The key in memory.
    pub key: Option<KeyView>,
    /// When the next exchange is due: a renewal, or another try.
    pub next_exchange_at: Option<Timestamp>,
    /// Pods that have shown a token which is still valid.
    pub pods: usize,
    /// Requests that wait for its first key.
    pub held_requests: usize,
    /// Whether its renewal was due when no Pod had a valid token left.
    pub without_token: bool,
    /// What the last exchange failed with, if it did.
    pub failure: Option<FailureView>,
}

/// A key without anything that is secret or names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// When this agent received it; `None` for one that it took over from another.
    pub received_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A failed exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// When it ended.
    pub at: Timestamp,
    /// Whether the issuer refused: then somebody has to change something.
    pub is_refusal: bool,
    /// What was tried, what came back and, for a refusal, what to do.
    pub message: String,
}

impl<E: Exchange> Cache<E> {
    /// Looks at everything, one identity after the other.
    pub fn view(&self) -> View {
        let shared = &self.0;
        let moment = shared.clocks();
        let gate = shared.gate.view(moment.now);
        let entries = shared.identities.iter();
        let mut identities: Vec<_> = entries.map(|(_, entry)| entry.view(moment)).collect();
        identities.sort_by(|a, b| a.identity.cmp(&b.identity));
        View {
            is_breaker_open: gate.is_breaker_open,
            next_probe_at: gate.next_probe.map(|at| moment.wall_at(at)),
            throttled_until: gate.throttled_until.map(|at| moment.wall_at(at)),
            exchanges: gate.in_flight,
            max_exchanges: gate.max_in_flight,
            identities,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::cache::script::{Act, HOUR, Node, refused, unavailable};

    #[tokio::test(start_paused = true)]
    async fn an_identity_shows_the_age_of_its_key_its_end_and_its_renewal() {
        let node = Node::new();
        node.ask(&node.pod("sa", "a")).await.unwrap();
        node.ask(&node.pod("sa", "b")).await.unwrap();
        let received_at = node.clock.now();
        tokio::time::sleep(Duration::from_mins(10)).await;
        let view = node.cache.view();
        let [identity] = view.identities.as_slice() else {
            panic!("{view:?}");
        };
        let key = identity.key.as_ref().unwrap();
        assert_eq!(key.received_at, Some(received_at));
        let life = key.expires_at.as_second() - received_at.as_second();
        assert_eq!(life, 6 * 3600);
        let renewal = identity
            .next_exchange_at
            .unwrap()
            .duration_since(received_at);
        assert!((162..=198).contains(&renewal.as_mins()), "{renewal}");
        assert_eq!((identity.pods, identity.held_requests), (2, 0));
        assert_eq!(identity.failure, None);
        assert!(!view.is_breaker_open && view.next_probe_at.is_none());

        tokio::time::sleep(Duration::from_mins(200)).await;
        let renewed = node.cache.view().identities.remove(0).key.unwrap();
        assert!(renewed.received_at.unwrap() > key.received_at.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_renewal_shows_why_and_when_it_is_tried_again_until_it_works() {
        let node = Node::new();
        node.ask(&node.pod("sa", "a")).await.unwrap();
        node.script.usually(Act::Fail(unavailable()));
        tokio::time::sleep(Duration::from_mins(230)).await;
        let view = node.cache.view();
        assert!(view.is_breaker_open);
        assert!(view.next_probe_at.is_some());
        let failure = view.identities[0].failure.as_ref().unwrap();
        assert_eq!(failure.message, "no connection");
        assert!(!failure.is_refusal && failure.at <= node.clock.now());
        assert!(view.identities[0].next_exchange_at.unwrap() >= failure.at);
        assert!(view.identities[0].key.is_some(), "the old key is kept");
        node.script.usually(Act::Mint(6 * HOUR));
        tokio::time::sleep(Duration::from_mins(5)).await;
        let view = node.cache.view();
        assert!(!view.is_breaker_open);
        assert_eq!(view.identities[0].failure, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_from_an_outage() {
        let node = Node::new();
        node.script.usually(Act::Fail(refused(403)));
        node.ask(&node.pod("sa", "a")).await.unwrap_err();
        let view = node.cache.view();
        let identity = &view.identities[0];
        assert!(identity.failure.as_ref().unwrap().is_refusal);
        assert_eq!((&identity.key, identity.next_exchange_at), (&None, None));
    }
}
