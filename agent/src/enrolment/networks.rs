//! Whose network namespaces Pods are in, as the API server says.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::workload::PodUid;

/// Whose network namespace a Pod is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// Its own, as far as anybody says.
    Own,
    /// That of the node (`hostNetwork`), with others.
    Nodes,
    /// That is to be said, and was not yet.
    Unknown,
}

/// What the watch of Pods has said of them; `None` while there is no watch that would.
#[derive(Debug, Default)]
pub(super) struct Networks(Mutex<Option<HashMap<PodUid, bool>>>);

impl Networks {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<PodUid, bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody will say.
    pub(super) fn expect(&self) {
        self.lock().get_or_insert_default();
    }

    /// These are all Pods of the node, and which of them are in its network.
    pub(super) fn show(&self, pods: HashMap<PodUid, bool>) {
        *self.lock() = Some(pods);
    }

    pub(super) fn of(&self, pod: &PodUid) -> Network {
        match self.lock().as_ref().map(|said| said.get(pod)) {
            Some(None) => Network::Unknown,
            Some(Some(true)) => Network::Nodes,
            None | Some(Some(false)) => Network::Own,
        }
    }
}
