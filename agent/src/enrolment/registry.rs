//! The Pods that are enrolled, and those that are enrolling.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::descriptor::{Cookie, Namespace};
use crate::workload::PodUid;

/// The enrolled Pods: at most one network namespace for each, and one Pod for each namespace.
#[derive(Debug)]
pub struct Registry {
    max_pods: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pods: HashMap<PodUid, Registration>,
    enrolling: HashSet<PodUid>,
}

/// A Pod whose listeners are served until this is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    namespace: Namespace,
    witness: Arc<OwnedFd>,
    stop: CancellationToken,
    served: Vec<JoinHandle<()>>,
    listeners: IntGauge,
}

impl Registration {
    /// Registers listeners in `namespace`, the first of which is `witness`; each is served by one
    /// of the tasks in `served` until `stop` is cancelled. Counts them as one in `listeners`: they are
    /// the two addresses of one loopback interface.
    pub(super) fn new(
        namespace: Namespace,
        witness: Arc<OwnedFd>,
        stop: CancellationToken,
        served: Vec<JoinHandle<()>>,
        listeners: IntGauge,
    ) -> Self {
        listeners.inc();
        Self {
            namespace,
            witness,
            stop,
            served,
            listeners,
        }
    }

    fn is_dead(&self) -> bool {
        self.served.iter().all(JoinHandle::is_finished)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.stop.cancel();
        self.listeners.dec();
    }
}

/// Through what an enrolled Pod's interfaces can be looked up.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    /// A listener in the Pod's network namespace.
    pub(crate) socket: Arc<OwnedFd>,
    /// The interfaces besides loopback when it enrolled, by index.
    pub(crate) interfaces: Vec<u32>,
}

/// What a Pod that enrols is to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is new.
    New,
    /// It is served already.
    Known,
    /// It has a new network namespace; the old listener ends.
    Replaces,
    /// Its network namespace is another Pod's.
    Taken,
    /// There are too many Pods.
    Full,
}

impl Registry {
    /// Makes a registry for at most `max_pods` Pods.
    pub fn new(max_pods: usize) -> Arc<Self> {
        Arc::new(Self {
            max_pods,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a Pod that begins to enrol; `None` while it enrols already.
    pub(super) fn begin(self: &Arc<Self>, pod: &PodUid) -> Option<Enrolling> {
        let entered = self.lock().enrolling.insert(pod.clone());
        entered.then(|| Enrolling {
            registry: Arc::clone(self),
            pod: pod.clone(),
        })
    }

    /// Tells what `pod` is, with the network namespace `cookie`.
    ///
    /// Without cookies (kernels before 5.14) the uid alone tells: a Pod that is served is known,
    /// and a new sandbox is taken once `reap` has seen the old one's interfaces go.
    pub(super) fn standing(&self, pod: &PodUid, cookie: Cookie) -> Standing {
        let mut state = self.lock();
        // Of a listener that ended by itself nothing is left to protect.
        let ended: Vec<PodUid> = state
            .pods
            .iter()
            .filter(|(_, registration)| registration.is_dead())
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in ended {
            state.pods.remove(&uid);
        }
        if let Some(registration) = state.pods.get(pod)
            && registration.namespace.cookie == cookie
        {
            return Standing::Known;
        }
        let mut others = state.pods.iter().filter(|(uid, _)| *uid != pod);
        if cookie.is_some() && others.any(|(_, other)| other.namespace.cookie == cookie) {
            return Standing::Taken;
        }
        if state.pods.contains_key(pod) {
            Standing::Replaces
        } else if state.pods.len() >= self.max_pods {
            Standing::Full
        } else {
            Standing::New
        }
    }

    /// Keeps a Pod; an older registration of it ends.
    pub(super) fn insert(&self, pod: PodUid, registration: Registration) {
        let replaced = self.lock().pods.insert(pod, registration);
        drop(replaced);
    }

    /// How many Pods are enrolled.
    pub fn len(&self) -> usize {
        self.lock().pods.len()
    }

    /// Whether no Pod is enrolled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the listeners of all Pods, and waits until their requests in flight have ended.
    ///
    /// # Cancel safety
    /// Dropping it ends the listeners all the same, and waits for nothing.
    pub async fn drain(&self) {
        let mut pods = std::mem::take(&mut self.lock().pods);
        for registration in pods.values() {
            registration.stop.cancel();
        }
        for registration in pods.values_mut() {
            for served in &mut registration.served {
                // A listener whose task has failed has ended all the same.
                let _ = served.await;
            }
        }
    }

    /// Ends the listeners of `pod`; `false` if it has none.
    pub fn remove(&self, pod: &PodUid) -> bool {
        let removed = self.lock().pods.remove(pod);
        removed.is_some()
    }

    /// Ends the listeners of `pod` if they are still those of `witness`.
    pub(crate) fn remove_witnessed(&self, pod: &PodUid, witness: &Witness) -> bool {
        let mut state = self.lock();
        let same = state
            .pods
            .get(pod)
            .is_some_and(|registration| Arc::ptr_eq(&registration.witness, &witness.socket));
        same && state.pods.remove(pod).is_some()
    }

    /// Every Pod with its witness.
    pub(crate) fn witnesses(&self) -> Vec<(PodUid, Witness)> {
        self.lock()
            .pods
            .iter()
            .map(|(uid, registration)| {
                let witness = Witness {
                    socket: Arc::clone(&registration.witness),
                    interfaces: registration.namespace.interfaces.clone(),
                };
                (uid.clone(), witness)
            })
            .collect()
    }
}

/// A Pod's turn to enrol; others of it wait outside until this is dropped.
#[derive(Debug)]
pub(super) struct Enrolling {
    registry: Arc<Registry>,
    pod: PodUid,
}

impl Drop for Enrolling {
    fn drop(&mut self) {
        self.registry.lock().enrolling.remove(&self.pod);
    }
}
