//! The last good key set, kept fresh by one task.
//!
//! Callers never load keys: they say that a reload is wanted and wait for a moment. So a caller
//! that hangs up cancels nothing, and however many tokens name however many unknown keys, the
//! source sees one request per [`RELOAD_INTERVAL`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::fetch::LoadError;
use super::keys::{Key, KeySet, SavedKeys};
use super::source::{KeySource, Loaded};
use crate::error::Error;
use crate::metrics::{JwksOutcome, Metrics};

/// Between two loads once keys are there; ± 10 %, so that a fleet spreads out.
const REFRESH_INTERVAL: Duration = Duration::from_mins(5);
/// Between the starts of two loads that unknown keys ask for.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// Between two loads while there are no keys at all; doubles from the first to the second.
const RETRY_INTERVALS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// For which a caller waits for a load.
const PATIENCE: Duration = Duration::from_secs(2);
/// For one load: a file system, or two documents over the network.
const LOAD_DEADLINE: Duration = Duration::from_secs(12);
/// What callers are told that found no keys.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The keys and what is known about them.
pub(super) struct Store {
    source: KeySource,
    /// `None`: the source's own word is taken.
    issuer: Option<String>,
    /// Empty: the issuer is the one accepted audience.
    audiences: Vec<String>,
    metrics: Metrics,
    state: watch::Sender<State>,
    /// Whoever hands the keys on looks again.
    changed: Notify,
}

struct State {
    keys: Option<Arc<KeySet>>,
    /// Why the last load failed, if it did.
    failure: Option<String>,
    /// Loads that ended.
    loads: u64,
    loading: bool,
    /// Somebody waits for a load sooner than the next periodic one.
    wanted: bool,
    /// When the next wanted load may start.
    earliest: Instant,
}

impl Store {
    /// Nothing is loaded before [`keep`](Self::keep) runs.
    pub(super) fn new(
        source: KeySource,
        issuer: Option<String>,
        audiences: Vec<String>,
        metrics: Metrics,
    ) -> Self {
        let state = State {
            keys: None,
            failure: None,
            loads: 0,
            loading: false,
            wanted: false,
            earliest: Instant::now(),
        };
        Self {
            source,
            issuer,
            audiences,
            metrics,
            state: watch::Sender::new(state),
            changed: Notify::new(),
        }
    }

    /// The last good key set.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        self.state.borrow().keys.clone()
    }

    /// Where the keys come from, and why the last load failed, if it did.
    pub(super) fn last_load(&self) -> (String, Option<String>) {
        (self.source.to_string(), self.state.borrow().failure.clone())
    }

    /// The generation of the last good key set; 0 before there is one.
    pub(super) fn generation(&self) -> u64 {
        self.state
            .borrow()
            .keys
            .as_ref()
            .map_or(0, |keys| keys.generation)
    }

    /// What the next agent is to know.
    pub(super) fn save(&self) -> Option<SavedKeys> {
        let keys = self.current()?;
        Some(SavedKeys {
            source: self.source.to_string(),
            issuer: keys.issuer.clone(),
            keys: keys.published(),
        })
    }

    /// Starts with the keys of another agent, if none are loaded yet and it had them from the same
    /// source and for the same issuer. They are loaded anew all the same.
    pub(super) fn restore(&self, saved: SavedKeys) {
        let SavedKeys {
            source,
            issuer,
            keys,
        } = saved;
        let configured = self.issuer.as_ref();
        if source != self.source.to_string()
            || configured.is_some_and(|configured| *configured != issuer)
        {
            return;
        }
        let keys = Key::restore(keys);
        if keys.is_empty() || self.current().is_some() {
            return;
        }
        let issuer = Some(issuer);
        if let Ok(keys) = self.key_set(Loaded { issuer, keys }) {
            self.state.send_modify(|state| {
                state.keys.get_or_insert(keys);
            });
        }
    }

    /// Returns when what [`save`](Self::save) gives has changed since this last returned. For one
    /// caller.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The last good key set, waited for while there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is still none after [`PATIENCE`].
    pub(super) async fn loaded(&self) -> Result<Arc<KeySet>, Error> {
        if let Some(keys) = self.current() {
            return Ok(keys);
        }
        let mut states = self.state.subscribe();
        // Both ways out of the wait, and its end by time, are told apart by what is there then.
        let _ = timeout(PATIENCE, states.wait_for(|state| state.keys.is_some())).await;
        let state = states.borrow();
        state.keys.clone().ok_or_else(|| Error::Unavailable {
            reason: format!(
                "the issuer's keys are not loaded yet: {}",
                state
                    .failure
                    .as_deref()
                    .unwrap_or("the first load has not ended")
            ),
            retry_after: RETRY_AFTER,
        })
    }

    /// The key set after a load that a key unknown to the last set called for. Where the last
    /// load is too recent for another one, that set is the answer.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the load failed, or has not ended after [`PATIENCE`]: whether
    /// the key is good cannot be told.
    pub(super) async fn reloaded(&self) -> Result<Arc<KeySet>, Error> {
        let mut states = self.state.subscribe();
        let mut seen = None;
        self.state.send_if_modified(|state| {
            let soon = state.earliest <= Instant::now() + PATIENCE;
            let ask = soon && !state.loading && !state.wanted;
            state.wanted |= ask;
            seen = (state.loading || state.wanted).then_some(state.loads);
            ask
        });
        let in_time = match seen {
            Some(loads) => {
                let ended = states.wait_for(|state| state.loads > loads);
                timeout(PATIENCE, ended).await.is_ok()
            }
            None => true,
        };
        let state = states.borrow();
        match (&state.keys, &state.failure) {
            (Some(keys), None) if in_time => Ok(Arc::clone(keys)),
            (_, failure) => Err(Error::Unavailable {
                reason: format!(
                    "the token's key is not among the issuer's keys that are loaded, and loading \
                     them again failed: {}",
                    failure.as_deref().unwrap_or("no answer in time")
                ),
                retry_after: RETRY_AFTER,
            }),
        }
    }

    /// Loads the keys now, then periodically and when they are wanted. Never ends.
    ///
    /// # Cancel safety
    /// Safe: the last good set stays.
    pub(super) async fn keep(&self) -> ! {
        let mut retry = RETRY_INTERVALS.0;
        loop {
            self.load().await;
            let interval = if self.current().is_some() {
                REFRESH_INTERVAL
            } else {
                let interval = retry;
                retry = (retry * 2).min(RETRY_INTERVALS.1);
                interval
            };
            let mut states = self.state.subscribe();
            let periodic = sleep(interval.mul_f64(0.9 + 0.2 * fastrand::f64()));
            let wanted = async {
                let wanted = states.wait_for(|state| state.wanted).await;
                // The sender is `self`: there is always one.
                if let Ok(earliest) = wanted.map(|state| state.earliest) {
                    sleep_until(earliest).await;
                }
            };
            tokio::select! {
                () = periodic => {}
                () = wanted => {}
            }
        }
    }

    async fn load(&self) {
        self.state.send_modify(|state| {
            state.loading = true;
            state.wanted = false;
            state.earliest = Instant::now() + RELOAD_INTERVAL;
        });
        let loaded = match timeout(LOAD_DEADLINE, self.source.load(self.issuer.as_deref())).await {
            Ok(loaded) => loaded.and_then(|loaded| self.key_set(loaded)),
            Err(_) => Err(LoadError::Slow(LOAD_DEADLINE)),
        };
        let outcome = match &loaded {
            Ok(_) => JwksOutcome::Success,
            Err(_) => JwksOutcome::Failure,
        };
        self.metrics.jwks_refreshes.of(outcome).inc();
        let failure = loaded.as_ref().err().map(ToString::to_string);
        if let Ok(keys) = &loaded
            && keys.generation != self.generation()
        {
            self.changed.notify_one();
        }
        self.log(loaded.as_ref().ok(), failure.as_deref());
        self.state.send_modify(|state| {
            if let Ok(keys) = loaded {
                state.keys = Some(keys);
            }
            state.failure = failure;
            state.loading = false;
            state.loads += 1;
        });
    }

    /// The set of what was loaded: the current one where nothing has changed, so that the tokens
    /// checked with it stay remembered.
    fn key_set(&self, loaded: Loaded) -> Result<Arc<KeySet>, LoadError> {
        let configured = self.issuer.clone();
        let issuer = configured.or(loaded.issuer).ok_or(LoadError::NoIssuer)?;
        let current = self.current();
        if let Some(current) = &current
            && current.is_same(&issuer, &loaded.keys)
        {
            return Ok(Arc::clone(current));
        }
        let audiences = if self.audiences.is_empty() {
            vec![issuer.clone()]
        } else {
            self.audiences.clone()
        };
        Ok(Arc::new(KeySet {
            generation: current.map_or(0, |keys| keys.generation) + 1,
            issuer,
            audiences,
            keys: loaded.keys,
        }))
    }

    /// One line per change of state, however often a load fails.
    fn log(&self, loaded: Option<&Arc<KeySet>>, failure: Option<&str>) {
        let source = &self.source;
        let (failed_before, generation) = {
            let state = self.state.borrow();
            let generation = state.keys.as_ref().map(|keys| keys.generation);
            (state.failure.is_some(), generation)
        };
        match (loaded, failure) {
            (Some(keys), _) if failed_before || Some(keys.generation) != generation => {
                tracing::info!(%source, issuer = keys.issuer, keys = keys.keys.len(), "loaded the issuer's keys");
            }
            (_, Some(error)) if !failed_before => {
                tracing::warn!(%source, error, "loading the issuer's keys failed; the last good ones, if any, stay in use");
            }
            _ => {}
        }
    }
}
