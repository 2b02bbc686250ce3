//! What reviews ask about objects of the cluster, from memory where possible.
//!
//! A watch keeps a small value of every object in memory. What memory does not know is asked of
//! the API, within the review's deadline: a `ServiceAccount` and its Pod are often created
//! together, and the watch may be some milliseconds behind.
//!
//! An answer from memory that is [conclusive](Kind::is_conclusive) is believed. Another is doubted while
//! the object is young ([`YOUNG`]) or the watch is interrupted, and the API is asked then.

mod flight;
mod kind;
mod memory;
mod namespaces;
mod service_accounts;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::Api;
use shared::clock::Clock;
use tokio::time::{Instant, sleep, timeout_at};

use self::flight::Flights;
pub use self::flight::Unreadable;
pub use self::kind::{Key, Kind};
use self::memory::Memory;
pub use self::namespaces::Namespaces;
pub use self::service_accounts::{Annotations, ServiceAccounts};
use crate::api::is_answer;
use crate::metrics::Source;

/// How long after its creation an object may still be being set up. Annotating it is the next
/// command of a script, or of a person.
pub const YOUNG: Duration = Duration::from_mins(1);

/// How long a doubted answer is waited for, before memory's is taken: a Pod that asks for nothing
/// must not wait for a slow API.
const CONFIRMATION: Duration = Duration::from_millis(500);

/// Pauses before a question is asked again that got lost on its way: the API server that had the
/// connection may have ended, and the next connection leads to another.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
];

/// Answers for one kind of object.
pub struct Lookup<K: Kind> {
    client: kube::Client,
    memory: Memory<K>,
    flights: Flights<K>,
    clock: Clock,
}

/// An answer and where it came from.
#[derive(Debug)]
pub struct Found<V> {
    /// What is known; `None` where there is no such object.
    pub value: Option<V>,
    /// Where it came from.
    pub source: Source,
}

impl<K: Kind> Lookup<K> {
    /// Remembers up to `capacity` objects, once [`keep`](Self::keep) runs.
    pub fn new(client: kube::Client, capacity: usize, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            client,
            memory: Memory::new(capacity),
            flights: Flights::default(),
            clock,
        })
    }

    /// Whether the watch has shown all objects once.
    pub fn is_synced(&self) -> bool {
        self.memory.is_synced()
    }

    /// How many objects are in memory.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether none is in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers for one object by `deadline`.
    ///
    /// # Errors
    /// [`Unreadable`] when memory does not know it and the API did not answer, with the reason.
    ///
    /// # Cancel safety
    /// Safe: nothing is remembered of a call that is dropped.
    pub async fn find(&self, key: &Key, deadline: Instant) -> Result<Found<K::Value>, Unreadable> {
        let Some(known) = self.memory.get(key) else {
            let value = self.ask(key, deadline).await?;
            let source = Source::Api;
            return Ok(Found { value, source });
        };
        if K::is_conclusive(&known.value) || !self.doubts(known.created) {
            return Ok(Found {
                value: Some(known.value),
                source: Source::Cache,
            });
        }
        let soon = deadline.min(Instant::now() + CONFIRMATION);
        Ok(match self.ask(key, soon).await {
            Ok(value) => Found {
                value,
                source: Source::Api,
            },
            Err(_) => Found {
                value: Some(known.value),
                source: Source::Unconfirmed,
            },
        })
    }

    /// Whether memory may be behind the API for an object of this age.
    fn doubts(&self, created: Option<Timestamp>) -> bool {
        let young = created.is_some_and(|created| {
            // Clocks differ both ways.
            let age = self.clock.now().duration_since(created).abs();
            age < SignedDuration::try_from(YOUNG).unwrap_or(SignedDuration::MAX)
        });
        young || self.memory.is_interrupted()
    }

    /// Asks the API; those who ask for the same object at once share one call.
    async fn ask(&self, key: &Key, deadline: Instant) -> Result<Option<K::Value>, Unreadable> {
        let asked = async {
            let (value, joined) = self.flights.ask(key, self.call(key)).await?;
            // A call that was under way may have read before our Pod's own objects were there; the
            // next one cannot.
            if joined && !value.as_ref().is_some_and(K::is_conclusive) {
                return Ok(self.flights.ask(key, self.call(key)).await?.0);
            }
            Ok(value)
        };
        timeout_at(deadline, asked)
            .await
            .unwrap_or_else(|_elapsed| Err(Unreadable::late::<K>(key)))
    }

    fn call(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<K::Value>, Unreadable>> + Send + 'static {
        let (api, key): (Api<K::Object>, _) = (K::api(&self.client, key), key.clone());
        async move {
            // The API server knows no object of such a name; and it would lead elsewhere.
            if !key.is_valid() {
                return Ok(None);
            }
            let mut pauses = AGAIN.iter();
            loop {
                match api.get_metadata_opt(&key.name).await {
                    Ok(found) => return Ok(found.map(|object| K::value(&object.metadata))),
                    Err(error) => match pauses.next() {
                        Some(pause) if !is_answer(&error) => sleep(*pause).await,
                        _ => return Err(Unreadable::refused::<K>(&key, &error)),
                    },
                }
            }
        }
    }
}
