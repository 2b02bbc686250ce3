//! Calls to the API that several reviews share.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::kind::{Key, Kind};
use crate::api;

/// More names than this are only held while some of them are dead.
const TIDY_ABOVE: usize = 1_024;

/// Why an object cannot be told.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    /// The API said no, or nothing that makes sense.
    pub(super) fn refused<K: Kind>(key: &Key, error: &kube::Error) -> Self {
        let (noun, reason) = (K::NOUN, api::reason(error));
        Self(format!("the {noun} {key} could not be read: {reason}"))
    }

    /// The API did not answer in time.
    pub(super) fn late<K: Kind>(key: &Key) -> Self {
        let noun = K::NOUN;
        Self(format!(
            "the {noun} {key} could not be read: the API server did not answer in time"
        ))
    }
}

type Outcome<K> = Result<Option<<K as Kind>::Value>, Unreadable>;
type Call<K> = BoxFuture<'static, Outcome<K>>;

/// The calls that are under way, by object. A call ends when nobody waits for it any more.
pub(super) struct Flights<K: Kind>(Mutex<HashMap<Key, WeakShared<Call<K>>>>);

impl<K: Kind> Default for Flights<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Kind> Flights<K> {
    /// Waits for the call that is under way for this object, or starts `call`. Says whether it was
    /// under way already.
    pub(super) async fn ask(
        &self,
        key: &Key,
        call: impl Future<Output = Outcome<K>> + Send + 'static,
    ) -> Result<(Option<K::Value>, bool), Unreadable> {
        let (flight, joined) = self.join(key, call);
        let ended = flight.await;
        Ok((ended?, joined))
    }

    fn join(
        &self,
        key: &Key,
        call: impl Future<Output = Outcome<K>> + Send + 'static,
    ) -> (Shared<Call<K>>, bool) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = flights.get(key).and_then(WeakShared::upgrade);
        // One that has ended is an answer of the past, even while somebody still holds it.
        if let Some(flight) = alive.filter(|flight| flight.peek().is_none()) {
            return (flight, true);
        }
        if flights.len() > TIDY_ABOVE {
            flights.retain(|_key, flight| flight.upgrade().is_some());
        }
        let flight = call.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key.clone(), weak);
        }
        (flight, false)
    }
}
