//! A short memory of verified tokens, which spares repeated signature checks.

use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;

use jiff::Timestamp;
use moka::sync::Cache;

use super::claims::Proof;
use crate::workload::PodUid;

/// How much of a token's end is hashed. It ends with its signature, which differs wherever anything
/// else does; an ECDSA signature has 86 characters, one of RSA at least 342.
const HASHED_BYTES: usize = 64;

/// Where a proof is kept: a hash of its token's end. Not the token itself: moka drops a value that
/// is taken out and keeps its key until the table is made anew, which on a node whose Pods come and
/// go is some 1,600 ended tokens.
type Place = u64;

/// A [`Place`] is a hash already.
#[derive(Default)]
struct AsItIs(Place);

impl Hasher for AsItIs {
    fn write(&mut self, place: &[u8]) {
        if let Some(place) = place.first_chunk() {
            self.0 = Place::from_ne_bytes(*place);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What is remembered. Bounded; the oldest and least used go first.
///
/// Of two tokens with one place, which nobody can make as the hash is keyed, the later is remembered.
pub(super) struct Memo {
    hashing: RandomState,
    proofs: Cache<Place, Arc<Proof>, BuildHasherDefault<AsItIs>>,
}

impl Memo {
    /// Remembers up to `capacity` tokens.
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            hashing: RandomState::new(),
            proofs: Cache::builder()
                .max_capacity(capacity)
                .build_with_hasher(BuildHasherDefault::default()),
        }
    }

    fn place(&self, token: &[u8]) -> Place {
        let mut hasher = self.hashing.build_hasher();
        // Not as a slice: its length says nothing here, and would be hashed too.
        hasher.write(token.last_chunk::<HASHED_BYTES>().map_or(token, |end| end));
        hasher.finish()
    }

    /// The proof, if it holds at `now` and was checked with the key set of this `generation`.
    pub(super) fn get(&self, token: &[u8], now: Timestamp, generation: u64) -> Option<Arc<Proof>> {
        let proof = self.proofs.get(&self.place(token))?;
        // The time that the comparison takes tells how much is equal, but only to somebody who shows
        // the end of a verified token's signature already.
        let is_same = proof.workload.token.expose().as_bytes() == token;
        (is_same && proof.generation == generation && proof.is_valid_at(now)).then_some(proof)
    }

    /// Remembers a proof by its token.
    pub(super) fn insert(&self, proof: Arc<Proof>) {
        let place = self.place(proof.workload.token.expose().as_bytes());
        self.proofs.insert(place, proof);
    }

    /// Forgets what no longer holds. The cache itself would keep such a token, a secret, until
    /// its place is needed.
    pub(super) fn sweep(&self, now: Timestamp, generation: u64) {
        self.retain(|proof| {
            proof.generation == generation && now < proof.workload.token_expires_at
        });
    }

    /// Forgets the tokens of a Pod that has ended.
    pub(super) fn forget(&self, pod: &PodUid) {
        self.retain(|proof| proof.workload.pod.uid != *pod);
    }

    fn retain(&self, keep: impl Fn(&Proof) -> bool) {
        for (place, proof) in &self.proofs {
            if !keep(&proof) {
                self.proofs.invalidate(&*place);
            }
        }
        self.proofs.run_pending_tasks();
    }

    /// How many tokens are remembered.
    pub(super) fn len(&self) -> u64 {
        self.proofs.run_pending_tasks();
        self.proofs.entry_count()
    }
}
