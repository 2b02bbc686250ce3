//! Identity and cache together: who asks, and what they get.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::cache::{Cache, Served};
use crate::credentials::Credentials;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::identity::Verifier;
use crate::link::{Memory, SavedMemory};
use crate::metrics::Outcome;
use crate::route::Authority;
use crate::snapshot;
use crate::tenants::Tenants;
use crate::workload::{Pod, PodUid, Workload};

/// Verifies who asks, and has their credentials.
pub struct Broker<E: Exchange> {
    verifier: Verifier,
    cache: Cache<E>,
    refused: Option<mpsc::Sender<Refused>>,
}

/// A Pod whose identity gets no credentials.
#[derive(Debug)]
pub struct Refused {
    /// The Pod that asked.
    pub pod: Pod,
    /// What the issuer said and what to do about it; no secret.
    pub message: String,
}

impl<E: Exchange> Broker<E> {
    /// Puts the two together.
    pub const fn new(verifier: Verifier, cache: Cache<E>) -> Self {
        Self {
            verifier,
            cache,
            refused: None,
        }
    }

    /// Tells `refused` of every request that the issuer's refusal answers. One that finds the channel
    /// full is not told: they come again and again.
    #[must_use]
    pub fn telling(mut self, refused: mpsc::Sender<Refused>) -> Self {
        self.refused = Some(refused);
        self
    }

    /// Who asks.
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// What they get.
    pub const fn cache(&self) -> &Cache<E> {
        &self.cache
    }

    /// Returns when credentials of `workload` are in memory.
    ///
    /// # Errors
    /// Those of [`Cache::credentials`].
    ///
    /// # Cancel safety
    /// Safe: the exchange goes on.
    pub async fn first_exchange(&self, workload: &Arc<Workload>) -> Result<(), Error> {
        self.served(workload).await.map(|_served| ())
    }

    /// Forgets a Pod that has ended: its tokens, and with the last Pod of an identity its
    /// credentials.
    pub fn forget(&self, pod: &PodUid) {
        self.verifier.forget(pod);
        self.cache.forget(pod);
    }

    /// Sets the gauges that change by themselves.
    pub fn observe(&self) {
        self.verifier.observe();
        self.cache.observe();
    }

    async fn served(&self, workload: &Arc<Workload>) -> Result<Served, Error> {
        let served = self.cache.credentials(workload).await;
        if let (Err(Error::Forbidden(message)), Some(refused)) = (&served, &self.refused) {
            // The message is copied for a place in the channel alone.
            if let Ok(place) = refused.try_reserve() {
                place.send(Refused {
                    pod: workload.pod.clone(),
                    message: message.clone(),
                });
            }
        }
        served
    }
}

impl<E: Exchange> Memory for Broker<E> {
    fn save(&self) -> io::Result<SavedMemory> {
        let (keys, furthest) = (self.verifier.save_keys(), self.verifier.furthest());
        self.cache.save(|cache| {
            Ok(SavedMemory {
                memory: snapshot::write(cache, keys, furthest)?,
                identities: cache.with_credentials(),
            })
        })
    }

    fn restore(&self, memory: OwnedFd, is_first: bool) -> io::Result<()> {
        snapshot::read(memory, |snapshot| {
            if let Some(furthest) = snapshot.furthest {
                self.verifier.restore_furthest(furthest);
            }
            if let Some(keys) = snapshot.keys {
                self.verifier.restore_keys(keys);
            }
            self.cache.restore(&snapshot.cache, is_first);
        })
    }

    async fn changed(&self) {
        tokio::select! {
            () = self.cache.changed() => {}
            () = self.verifier.keys_changed() => {}
        }
    }

    fn rest(&self, resting: bool) {
        self.cache.rest(resting);
    }

    fn forget(&self, pod: &PodUid) {
        Self::forget(self, pod);
    }
}

impl<E: Exchange> Authority for Broker<E> {
    async fn credentials(
        &self,
        authorization: Option<&[u8]>,
        listener: Option<&Tenants>,
    ) -> Result<(Credentials, Outcome), Error> {
        let workload = self.verifier.verify(authorization, listener).await?;
        let served = self.served(&workload).await?;
        Ok((served.credentials, served.outcome))
    }
}
