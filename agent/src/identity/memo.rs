//! A short memory of verified tokens, which spares repeated signature checks.

use std::sync::Arc;

use aws_lc_rs::digest;
use jiff::Timestamp;
use moka::sync::Cache;

use super::claims::Proof;

/// A token's SHA-256.
pub(super) type TokenDigest = [u8; digest::SHA256_OUTPUT_LEN];

/// What is remembered, by the token's digest. Bounded; the oldest and least used go first.
pub(super) struct Memo(Cache<TokenDigest, Arc<Proof>>);

impl Memo {
    /// Remembers up to `capacity` tokens.
    pub(super) fn new(capacity: u64) -> Self {
        Self(Cache::new(capacity))
    }

    /// What a token is remembered by.
    pub(super) fn digest(token: &[u8]) -> TokenDigest {
        let mut digest = TokenDigest::default();
        digest.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
        digest
    }

    /// The proof, if it holds at `now` and was checked with the key set of this `generation`.
    pub(super) fn get(
        &self,
        token: &TokenDigest,
        now: Timestamp,
        generation: u64,
    ) -> Option<Arc<Proof>> {
        let proof = self.0.get(token)?;
        (proof.generation == generation && proof.is_valid_at(now)).then_some(proof)
    }

    /// Remembers a proof.
    pub(super) fn insert(&self, token: TokenDigest, proof: Arc<Proof>) {
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
