//! The Pods that are enrolled, and those that are enrolling.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::descriptor::Cookie;
use super::registration::{Registration, Witness};
use super::unkept::Unkept;
use crate::workload::PodUid;

/// The enrolled Pods: at most one network namespace for each, and one Pod for each namespace.
#[derive(Debug)]
pub struct Registry {
    max_pods: usize,
    state: Mutex<State>,
    unkept: Unkept,
}

/// What the keeper holds for a Pod.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) about: Vec<u8>,
    pub(crate) sockets: Vec<Arc<OwnedFd>>,
}

#[derive(Debug, Default)]
struct State {
    pods: HashMap<PodUid, Registration>,
    /// With the network namespace of those that have claimed one.
    enrolling: HashMap<PodUid, Option<Claim>>,
    is_draining: bool,
}

/// The network namespace of a Pod that is about to be enrolled.
#[derive(Clone, Copy, Debug)]
struct Claim(Cookie);

impl State {
    /// Drops the registrations of listeners that ended by themselves: nothing is left to protect.
    fn forget_dead(&mut self) {
        self.pods.retain(|_, registration| !registration.is_dead());
    }

    /// Whether a Pod other than `pod` has, or is about to get, the network namespace `cookie`.
    fn is_taken(&self, pod: &PodUid, cookie: u64) -> bool {
        let enrolled = self.pods.iter();
        let enrolled = enrolled.map(|(uid, registration)| (uid, registration.cookie));
        let enrolling = self.enrolling.iter();
        let enrolling = enrolling.filter_map(|(uid, claim)| Some((uid, (*claim)?.0)));
        enrolled
            .chain(enrolling)
            .any(|(uid, other)| uid != pod && other == Some(cookie))
    }

    /// How many Pods there will be when all that have a claim are enrolled.
    fn expected(&self) -> usize {
        let new = |(uid, claim): &(&PodUid, &Option<Claim>)| {
            claim.is_some() && !self.pods.contains_key(*uid)
        };
        self.pods.len() + self.enrolling.iter().filter(new).count()
    }
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
            unkept: Unkept::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a Pod that begins to enrol; `None` while it enrols already.
    pub(super) fn begin(self: &Arc<Self>, pod: &PodUid) -> Option<Enrolling> {
        match self.lock().enrolling.entry(pod.clone()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(vacant) => vacant.insert(None),
        };
        Some(Enrolling {
            registry: Arc::clone(self),
            pod: pod.clone(),
        })
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
            sockets: registration.sockets().to_vec(),
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
            for registration in state.pods.values_mut() {
                registration.stop();
                served.append(&mut registration.take_served());
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

    /// Every Pod with its witness.
    pub(crate) fn witnesses(&self) -> Vec<(PodUid, Witness)> {
        self.lock()
            .pods
            .iter()
            .filter_map(|(uid, registration)| Some((uid.clone(), registration.witness()?)))
            .collect()
    }
}

/// A Pod's turn to enrol; others of it wait outside until this is dropped.
#[derive(Debug)]
pub(super) struct Enrolling {
    registry: Arc<Registry>,
    pod: PodUid,
}

impl Enrolling {
    /// Tells what the Pod is, with the network namespace `cookie`. Where it may enrol, namespace
    /// and place are its own as long as the turn lasts: of two that come at once, one is refused.
    ///
    /// Without cookies (kernels before 5.14) uid and interfaces tell: a Pod that is served is
    /// known, unless its interfaces are gone. Runtimes take them away before they make a new
    /// sandbox, and it may enrol before `reap` has seen that.
    pub(super) fn claim(&self, cookie: Cookie) -> Standing {
        let mut state = self.registry.lock();
        state.forget_dead();
        let known = state.pods.get(&self.pod);
        let standing = match known {
            Some(registration)
                if registration.cookie == cookie
                    && (cookie.is_some() || !registration.is_gone()) =>
            {
                return Standing::Known;
            }
            Some(_) => Standing::Replaces,
            None => Standing::New,
        };
        if cookie.is_some_and(|cookie| state.is_taken(&self.pod, cookie)) {
            return Standing::Taken;
        }
        if standing == Standing::New && state.expected() >= self.registry.max_pods {
            return Standing::Full;
        }
        state
            .enrolling
            .insert(self.pod.clone(), Some(Claim(cookie)));
        standing
    }
}

impl Drop for Enrolling {
    fn drop(&mut self) {
        self.registry.lock().enrolling.remove(&self.pod);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_pods_that_enrol_at_once_one_gets_the_namespace() {
        let registry = Registry::new(8);
        let (a, b) = (PodUid::new("a"), PodUid::new("b"));
        let first = registry.begin(&a).unwrap();
        let second = registry.begin(&b).unwrap();
        assert_eq!(first.claim(Some(1)), Standing::New);
        assert_eq!(second.claim(Some(1)), Standing::Taken);
        assert_eq!(second.claim(Some(2)), Standing::New);
        drop((first, second));
        let second = registry.begin(&b).unwrap();
        assert_eq!(second.claim(Some(1)), Standing::New, "a claim outlived");
    }

    #[test]
    fn pods_that_enrol_at_once_do_not_exceed_the_most() {
        let registry = Registry::new(2);
        let turns = ["a", "b", "c"].map(|uid| registry.begin(&PodUid::new(uid)).unwrap());
        let mut cookies = 1..;
        let standings = turns.each_ref().map(|turn| turn.claim(cookies.next()));
        assert_eq!(standings, [Standing::New, Standing::New, Standing::Full]);
    }

    #[test]
    fn a_pod_enrols_once_at_a_time() {
        let registry = Registry::new(2);
        let turn = registry.begin(&PodUid::new("a"));
        assert!(registry.begin(&PodUid::new("a")).is_none());
        drop(turn);
        assert!(registry.begin(&PodUid::new("a")).is_some());
    }
}
