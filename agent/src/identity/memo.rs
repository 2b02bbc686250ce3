//! A short memory of verified tokens, which spares repeated signature checks.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use equivalent::Equivalent;
use jiff::Timestamp;
use moka::sync::Cache;

use super::claims::Proof;
use crate::workload::Token;

/// How much of a token's end is hashed. It ends with its signature, which differs wherever anything
/// else does; an ECDSA signature has 86 characters, one of RSA at least 342.
const HASHED_BYTES: usize = 64;

/// A token that somebody shows.
struct Shown<'a>(&'a [u8]);

/// A token that was verified.
struct Remembered(Token);

impl PartialEq for Remembered {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for Remembered {}

impl Hash for Shown<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let end = self.0.len().saturating_sub(HASHED_BYTES);
        self.0.get(end..).hash(state);
    }
}

impl Hash for Remembered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Shown(self.0.expose().as_bytes()).hash(state);
    }
}

// The time that this takes tells how much is equal, but only to somebody who shows the end of a
// verified token's signature already.
impl Equivalent<Remembered> for Shown<'_> {
    fn equivalent(&self, remembered: &Remembered) -> bool {
        self.0 == remembered.0.expose().as_bytes()
    }
}

/// What is remembered, by the token itself: those that were verified are in memory all the same, and
/// no digest costs less than a look at their ends. Bounded; the oldest and least used go first.
pub(super) struct Memo(Cache<Remembered, Arc<Proof>>);

impl Memo {
    /// Remembers up to `capacity` tokens.
    pub(super) fn new(capacity: u64) -> Self {
        Self(Cache::new(capacity))
    }

    /// The proof, if it holds at `now` and was checked with the key set of this `generation`.
    pub(super) fn get(&self, token: &[u8], now: Timestamp, generation: u64) -> Option<Arc<Proof>> {
        let proof = self.0.get(&Shown(token))?;
        (proof.generation == generation && proof.is_valid_at(now)).then_some(proof)
    }

    /// Remembers a proof by its token.
    pub(super) fn insert(&self, proof: Arc<Proof>) {
        let token = Remembered(proof.workload.token.clone());
        self.0.insert(token, proof);
    }

    /// Forgets what no longer holds. The cache itself would keep such a token, a secret, until
    /// its place is needed.
    pub(super) fn sweep(&self, now: Timestamp, generation: u64) {
        for (token, proof) in &self.0 {
            if proof.generation != generation || proof.workload.token_expires_at <= now {
                self.0.invalidate(&*token);
            }
        }
        self.0.run_pending_tasks();
    }

    /// How many tokens are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}
