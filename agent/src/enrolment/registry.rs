//! The Pods that are enrolled, and those that are enrolling.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::descriptor::Cookie;
use super::networks::{Network, Networks};
use super::registration::{Registration, Witness};
use super::served::Served;
use super::turn::{Claim, Enrolling};
use super::unkept::Unkept;
use crate::workload::PodUid;

/// The enrolled Pods: at most one network namespace for each, and one Pod for each namespace, but for
/// that of the node, where Pods share a listener for each port.
#[derive(Debug)]
pub struct Registry {
    pub(super) max_pods: usize,
    state: Mutex<State>,
    pub(super) networks: Networks,
    unkept: Unkept,
}

/// What the keeper holds for a Pod.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) about: Vec<u8>,
    pub(crate) sockets: Vec<Arc<OwnedFd>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) pods: HashMap<PodUid, Registration>,
    /// With the place of those that have claimed one.
    pub(super) enrolling: HashMap<PodUid, Option<Claim>>,
    is_draining: bool,
}

impl State {
    /// Drops the registrations of listeners that ended by themselves: nothing is left to protect.
    pub(super) fn forget_dead(&mut self) {
        self.pods
            .retain(|_, registration| !registration.served.is_dead());
    }

    /// How many Pods there will be when all that have a claim are enrolled.
    pub(super) fn expected(&self) -> usize {
        let new = |(uid, claim): &(&PodUid, &Option<Claim>)| {
            claim.is_some() && !self.pods.contains_key(*uid)
        };
        self.pods.len() + self.enrolling.iter().filter(new).count()
    }
}

impl Registry {
    /// Makes a registry for at most `max_pods` Pods.
    pub fn new(max_pods: usize) -> Arc<Self> {
        Arc::new(Self {
            max_pods,
            state: Mutex::default(),
            networks: Networks::default(),
            unkept: Unkept::default(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a Pod that begins to enrol; `None` while it enrols already.
    pub(super) fn begin(self: &Arc<Self>, pod: &PodUid) -> Option<Enrolling> {
        match self.lock().enrolling.entry(pod.clone()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(vacant) => vacant.insert(None),
        };
        Some(Enrolling::new(Arc::clone(self), pod.clone()))
    }

    /// Keeps a Pod; an older registration of it ends.
    pub(super) fn insert(&self, registration: Registration) {
        let pod = registration.about.pod.uid.clone();
        self.adopt(registration);
        self.unkept.note(&pod);
    }

    /// Keeps a Pod whose listeners come from the keeper, which knows them.
    pub(super) fn adopt(&self, registration: Registration) {
        let pod = registration.about.pod.uid.clone();
        let replaced = self.lock().pods.insert(pod, registration);
        drop(replaced);
    }

    /// What the keeper is still to be told.
    pub(crate) const fn unkept(&self) -> &Unkept {
        &self.unkept
    }

    /// What the keeper is to hold for `pod`; `None` where that has no listener.
    pub(crate) fn kept(&self, pod: &PodUid) -> Option<Kept> {
        let state = self.lock();
        let registration = state.pods.get(pod)?;
        Some(Kept {
            about: registration.about.write(),
            sockets: registration.served.sockets().to_vec(),
        })
    }

    /// The Pods that are enrolled.
    pub(crate) fn pods(&self) -> Vec<PodUid> {
        self.lock().pods.keys().cloned().collect()
    }

    /// The network namespace of the listeners of `pod`, and since when they are there.
    pub(super) fn known(&self, pod: &PodUid) -> Option<(Cookie, Timestamp)> {
        let state = self.lock();
        let registration = state.pods.get(pod)?;
        Some((registration.cookie, registration.about.since))
    }

    /// How many Pods are enrolled.
    pub fn len(&self) -> usize {
        self.lock().pods.len()
    }

    /// Whether no Pod is enrolled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stops to serve all Pods, and waits until their requests in flight have ended. Takes none over
    /// from then on. A keeper that is linked can still be told of their listeners, which another
    /// agent serves then; without one they end.
    ///
    /// # Cancel safety
    /// Dropping it stops to serve all the same, and waits for nothing.
    pub async fn drain(&self) {
        let mut served = Vec::new();
        let ended = {
            let mut state = self.lock();
            state.is_draining = true;
            for registration in state.pods.values() {
                registration.served.stop();
                served.append(&mut registration.served.take_tasks());
            }
            if self.unkept.is_linked() {
                HashMap::new()
            } else {
                std::mem::take(&mut state.pods)
            }
        };
        drop(ended);
        for task in served {
            // A listener whose task has failed has ended all the same.
            let _ = task.await;
        }
    }

    /// Whether this agent is about to end.
    pub(super) fn is_draining(&self) -> bool {
        self.lock().is_draining
    }

    /// Ends the listeners of `pod`; `false` if it has none.
    pub fn remove(&self, pod: &PodUid) -> bool {
        let removed = self.lock().pods.remove(pod);
        let was_there = removed.is_some();
        if was_there {
            self.unkept.note(pod);
        }
        was_there
    }

    /// Ends the listeners of `pod` because another agent of the node says that it is gone. Where its
    /// interfaces say that it lives, they stay and `false` comes back: this agent knows better.
    pub(crate) fn remove_told(&self, pod: &PodUid) -> bool {
        let mut state = self.lock();
        let witness = state.pods.get(pod).and_then(Registration::witness);
        if witness.is_some_and(|witness| witness.is_alive()) {
            drop(state);
            self.unkept.note(pod);
            return false;
        }
        state.pods.remove(pod).is_some()
    }

    /// Ends the listeners of `pod` if they are still those of `witness`.
    pub(crate) fn remove_witnessed(&self, pod: &PodUid, witness: &Witness) -> bool {
        let mut state = self.lock();
        let known = state.pods.get(pod).and_then(Registration::witness);
        let same = known.is_some_and(|known| Arc::ptr_eq(&known.socket, &witness.socket));
        let removed = same && state.pods.remove(pod).is_some();
        drop(state);
        if removed {
            self.unkept.note(pod);
        }
        removed
    }

    /// Somebody will say whose networks Pods are in; until then it is not known.
    pub(crate) fn expect_networks(&self) {
        self.networks.expect();
    }

    /// These are all Pods of this node, and whether they share its network namespace. Of those that
    /// are enrolled and do, the node's interfaces say nothing from now on.
    pub(crate) fn show_networks(&self, pods: HashMap<PodUid, bool>) {
        let mut state = self.lock();
        let mut news = Vec::new();
        for (uid, registration) in &mut state.pods {
            let about = &mut registration.about;
            if pods.get(uid) == Some(&true) && !about.host_network {
                about.host_network = true;
                news.push(uid.clone());
            }
        }
        self.networks.show(pods);
        drop(state);
        for pod in news {
            self.unkept.note(&pod);
        }
    }

    /// Whether it is known that `pod` shares the node's network namespace.
    pub(super) fn is_in_the_nodes_network(&self, pod: &PodUid) -> bool {
        self.networks.of(pod) == Network::Nodes
    }

    /// Listeners at `port` of the network namespace `cookie` that Pods which share the node's serve
    /// already, and that one more may share.
    pub(super) fn shared(&self, cookie: Cookie, port: u16) -> Option<Arc<Served>> {
        let state = self.lock();
        let mut shared = state
            .pods
            .values()
            .filter(|it| it.about.host_network && it.cookie == cookie && it.about.port == port);
        Some(Arc::clone(&shared.next()?.served))
    }

    /// Every Pod with its witness.
    pub(crate) fn witnesses(&self) -> Vec<(PodUid, Witness)> {
        self.lock()
            .pods
            .iter()
            .filter_map(|(uid, registration)| Some((uid.clone(), registration.witness()?)))
            .collect()
    }
}
