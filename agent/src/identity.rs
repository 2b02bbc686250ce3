//! Verifies service account tokens locally: by the issuer's public keys and by what the token says.
//!
//! [`Verifier`] takes the `Authorization` header of a request and gives the [`Workload`] that it
//! proves. No token leaves the node for that, and with keys in memory no other machine is asked,
//! so it goes on while the API server is down. A Pod that was deleted is not noticed here: its
//! token is good until it expires.

mod claims;
mod fetch;
mod furthest;
mod keys;
mod memo;
mod quoted;
#[cfg(test)]
mod signer;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod unverified;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::contract::MAX_TOKEN_BYTES;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::claims::{Expected, Proof};
use self::furthest::Furthest;
use self::keys::KeySet;
pub use self::keys::SavedKeys;
use self::memo::Memo;
use self::quoted::Quoted;
pub use self::source::KeySource;
use self::store::Store;
use self::unverified::Unverified;
use crate::error::Error;
use crate::metrics::{Metrics, TokenOutcome};
use crate::tenants::Tenants;
use crate::workload::{PodUid, Workload};
use shared::clock::Clock;

/// How often remembered tokens that no longer hold are wiped.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Which tokens are accepted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `iss` that tokens must have, compared as text. `None`: the one that the source of the
    /// keys names, which a bare key set does not.
    pub issuer: Option<String>,
    /// The audiences that are accepted. A token made for several of them gets the first in this
    /// order. Empty: the issuer's URL is the one accepted audience.
    pub audiences: Vec<String>,
    /// This node's name; tokens of Pods on other nodes are refused. Tokens name their node from
    /// Kubernetes 1.30 on: older ones are not compared. `None`: none are.
    pub node: Option<String>,
    /// How far `nbf` may be in the future, for clocks that differ; measured by the furthest that this
    /// node's clock has come, so that one that is set back refuses nothing. `exp` has no leeway.
    pub leeway: Duration,
    /// How many verified tokens are remembered; each takes 2 to 4 kB, and never more than about
    /// [`MAX_TOKEN_BYTES`] and 1 kB.
    pub memo_capacity: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            issuer: None,
            audiences: Vec::new(),
            node: None,
            leeway: Duration::from_mins(1),
            memo_capacity: 4096,
        }
    }
}

/// Settings that no token could meet.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// A bare key set does not say whose keys it holds.
    #[error("the keys come from {0}, which names no issuer: configure the issuer")]
    NoIssuer(String),
    /// Two issuers are configured.
    #[error(
        "the issuer is configured as {}, but its keys are those of {}: use the same text, to the slash",
        Quoted(.configured), Quoted(.source_issuer)
    )]
    OtherIssuer {
        /// From [`Settings::issuer`].
        configured: String,
        /// From [`KeySource::Issuer`].
        source_issuer: String,
    },
}

/// The issuer's keys at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysView {
    /// Where they come from.
    pub source: String,
    /// Whose they are; `None` until they were loaded once.
    pub issuer: Option<String>,
    /// How many there are.
    pub count: usize,
    /// Why the last load failed, if it did.
    pub failure: Option<String>,
}

/// Verifies service account tokens.
///
/// Needs [`keep_keys`](Self::keep_keys) to run beside it.
pub struct Verifier {
    node: Option<String>,
    leeway: Duration,
    furthest: Furthest,
    clock: Clock,
    metrics: Metrics,
    memo: Memo,
    store: Store,
}

impl Verifier {
    /// Prepares a verifier; nothing is loaded yet.
    ///
    /// # Errors
    /// [`SettingsError`] when the issuer is not known or known twice.
    pub fn new(
        settings: Settings,
        source: KeySource,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, SettingsError> {
        let issuer = match (settings.issuer, &source) {
            (None, KeySource::File(_) | KeySource::Url { .. }) => {
                return Err(SettingsError::NoIssuer(source.to_string()));
            }
            (Some(configured), KeySource::Issuer { issuer, .. }) if configured != *issuer => {
                return Err(SettingsError::OtherIssuer {
                    configured,
                    source_issuer: issuer.clone(),
                });
            }
            (None, KeySource::Issuer { issuer, .. }) => Some(issuer.clone()),
            (configured, _) => configured,
        };
        Ok(Self {
            node: settings.node,
            leeway: settings.leeway,
            furthest: Furthest::new(clock.clone()),
            clock,
            metrics: metrics.clone(),
            memo: Memo::new(settings.memo_capacity),
            store: Store::new(source, issuer, settings.audiences, metrics),
        })
    }

    /// Verifies the token in an `Authorization` header and gives the workload that it proves.
    ///
    /// The token may come raw or after `Bearer`, in any case, with blanks around it. On an
    /// enrolled Pod's own listener only that Pod's tokens are accepted, and those of its tenants on one
    /// that Pods share; `None` as `listener` accepts those of all Pods on this node. A token that was
    /// verified before costs a look-up.
    ///
    /// # Errors
    /// - [`Error::Malformed`]: not UTF-8, or longer than [`MAX_TOKEN_BYTES`].
    /// - [`Error::Unauthenticated`]: no token, or not one of the issuer's for an accepted audience
    ///   at this time.
    /// - [`Error::Forbidden`]: a good token of no Pod, of a Pod on another node, or of another Pod
    ///   than the listener's.
    /// - [`Error::Unavailable`]: the issuer's keys are not there, or could not be loaded again for
    ///   a token whose key is unknown. Takes up to 2 s.
    ///
    /// # Cancel safety
    /// Safe: loads of keys run in [`keep_keys`](Self::keep_keys).
    pub async fn verify(
        &self,
        authorization: Option<&[u8]>,
        listener: Option<&Tenants>,
    ) -> Result<Arc<Workload>, Error> {
        let result = self.check(authorization, listener).await;
        let outcome = match &result {
            Ok((outcome, _)) => *outcome,
            Err(Error::Malformed(_) | Error::Unauthenticated(_)) => TokenOutcome::Rejected,
            Err(Error::Forbidden(_)) => TokenOutcome::Misplaced,
            Err(Error::Unavailable { .. }) => TokenOutcome::Unchecked,
        };
        self.metrics.tokens_verified.of(outcome).inc();
        result.map(|(_, workload)| workload)
    }

    /// Whether keys were ever loaded: without them no token can be verified.
    pub fn has_keys(&self) -> bool {
        self.store.current().is_some()
    }

    /// The issuer's keys, for the next agent of the node.
    pub fn save_keys(&self) -> Option<SavedKeys> {
        self.store.save()
    }

    /// Starts with the keys of the agent before, where none are loaded yet.
    pub fn restore_keys(&self, saved: SavedKeys) {
        self.store.restore(saved);
    }

    /// How far time has come on this node, for its next agent: a token that was good here must be so
    /// there, also when the clock is set back meanwhile.
    pub fn furthest(&self) -> Timestamp {
        self.furthest.now()
    }

    /// Takes in how far time had come for the agent before.
    pub fn restore_furthest(&self, at: Timestamp) {
        self.furthest.at_least(at);
    }

    /// Returns when other keys were loaded since this last returned. For one caller.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn keys_changed(&self) {
        self.store.changed().await;
    }

    /// What a person may see of the issuer's keys.
    pub fn keys(&self) -> KeysView {
        let (source, failure) = self.store.last_load();
        let keys = self.store.current();
        KeysView {
            source,
            issuer: keys.as_ref().map(|keys| keys.issuer.clone()),
            count: keys.map_or(0, |keys| keys.keys.len()),
            failure,
        }
    }

    /// Forgets the tokens of a Pod that has ended. One that is shown again is checked anew.
    pub fn forget(&self, pod: &PodUid) {
        self.memo.forget(pod);
    }

    /// Sets the gauge of remembered tokens.
    pub fn observe(&self) {
        let count = i64::try_from(self.memo.len()).unwrap_or(i64::MAX);
        self.metrics.remembered_tokens.set(count);
    }

    /// Loads the issuer's keys, keeps them fresh, and forgets expired tokens, until `shutdown`.
    ///
    /// Failures are retried for ever and never end it. The last good keys stay in use as long as
    /// no better ones come.
    ///
    /// # Cancel safety
    /// Safe, and it may be started again.
    pub async fn keep_keys(&self, shutdown: CancellationToken) {
        let sweep = async {
            let mut ticks = interval(SWEEP_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.memo.sweep(self.clock.now(), self.store.generation());
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.store.keep() => {}
            () = sweep => {}
        }
    }

    async fn check(
        &self,
        authorization: Option<&[u8]>,
        listener: Option<&Tenants>,
    ) -> Result<(TokenOutcome, Arc<Workload>), Error> {
        let token = token(authorization)?;
        let remembered = self
            .memo
            .get(token, self.clock.now(), self.store.generation());
        let (outcome, proof) = if let Some(proof) = remembered {
            (TokenOutcome::Remembered, proof)
        } else {
            // Seldom, and large: on the heap it makes no other request's future larger.
            let proof = Arc::new(Box::pin(self.prove(token)).await?);
            self.memo.insert(Arc::clone(&proof));
            (TokenOutcome::Verified, proof)
        };
        self.place(&proof, listener)?;
        Ok((outcome, Arc::clone(&proof.workload)))
    }

    /// Checks signature and claims of a token that is not remembered.
    async fn prove(&self, token: &[u8]) -> Result<Proof, Error> {
        let token = str::from_utf8(token).map_err(|_| {
            Error::Malformed(
                "the Authorization header is not UTF-8: send the token as it is".into(),
            )
        })?;
        let unverified = Unverified::new(token)?;
        let mut keys = self.store.loaded().await?;
        if !keys.has(&unverified.key_id) {
            // Tokens that would be refused anyway must not make the node load keys.
            unverified.claims()?.check(&self.expected(&keys))?;
            keys = self.store.reloaded().await?;
        }
        let claims = keys.verify(&unverified)?;
        let audience = claims.check(&self.expected(&keys))?;
        claims.prove(token, audience, keys.generation)
    }

    fn expected<'a>(&self, keys: &'a KeySet) -> Expected<'a> {
        Expected {
            issuer: &keys.issuer,
            audiences: &keys.audiences,
            now: self.clock.now(),
            furthest: self.furthest.now(),
            leeway: self.leeway,
        }
    }

    /// Compares where the token belongs with where it was shown.
    fn place(&self, proof: &Proof, listener: Option<&Tenants>) -> Result<(), Error> {
        let pod = &proof.workload.pod;
        if let (Some(here), Some(bound)) = (&self.node, &proof.node)
            && here != bound
        {
            return Err(Error::Forbidden(format!(
                "the token's Pod {}/{} is bound to node {}; this is node {}",
                pod.namespace,
                pod.name,
                Quoted(bound),
                Quoted(here)
            )));
        }
        if listener.is_some_and(|listener| !listener.has(&pod.uid)) {
            return Err(Error::Forbidden(format!(
                "the token is that of Pod {}/{} (uid {}), and this is another Pod's endpoint: a \
                 Pod's token is accepted in that Pod alone",
                pod.namespace, pod.name, pod.uid
            )));
        }
        Ok(())
    }
}

/// What some clients put before the token.
const SCHEME: &[u8] = b"Bearer";

/// The token in an `Authorization` header. Whether it is text at all is asked when it is read.
fn token(authorization: Option<&[u8]>) -> Result<&[u8], Error> {
    let text = authorization.unwrap_or_default().trim_ascii();
    // Only the first bytes are looked at: searching a whole token costs more than all else here.
    let token = match text.split_at_checked(SCHEME.len()) {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case(SCHEME) && matches!(rest, [b' ' | b'\t', ..]) =>
        {
            rest.trim_ascii_start()
        }
        _ => text,
    };
    if token.is_empty() || token.eq_ignore_ascii_case(SCHEME) {
        return Err(Error::Unauthenticated(
            "the Authorization header holds no token: send the Pod's service account token".into(),
        ));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Error::Malformed(format!(
            "the token has {} bytes; at most {MAX_TOKEN_BYTES} are read",
            token.len()
        )));
    }
    Ok(token)
}
