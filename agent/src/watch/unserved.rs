//! The Pods that the watch has found to lack something, kept for people who ask.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::workload::Pod;

/// A Pod that is to be served and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnservedView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// What it lacks.
    pub reason: UnservedReason,
}

/// Why a Pod is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnservedReason {
    /// It is injected and runs, and nobody on the node has a listener of it.
    ListenerLost,
    /// The listener that it handed over was in another network than its own.
    ListenerRejected,
    /// It is to be injected, and was created without.
    NotInjected,
}

/// What the watch has found last; nothing until it knew the Pods of the node once.
#[derive(Debug, Default)]
pub struct Unserved(Mutex<Option<Vec<UnservedView>>>);

impl Unserved {
    /// The Pods, by namespace and name; `None` while it is not known which Pods there are.
    pub fn pods(&self) -> Option<Vec<UnservedView>> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.clone()
    }

    /// Puts what was found in the place of what was found before.
    pub(super) fn found(&self, mut pods: Vec<UnservedView>) {
        pods.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(pods);
    }
}

impl UnservedView {
    pub(super) fn of(pod: &Pod, reason: UnservedReason) -> Self {
        Self {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.to_string(),
            service_account: pod.service_account.clone(),
            reason,
        }
    }
}
