//! What the keeper does not know yet.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::workload::PodUid;

/// The Pods of which the keeper must be told something: that they have listeners, or that they have
/// none any more. What it must be told is looked up when it is sent.
#[derive(Debug, Default)]
pub(crate) struct Unkept {
    state: Mutex<State>,
    changed: Notify,
    told: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// A keeper is there to be told. Without one nothing is noted: when it comes, it is told all.
    linked: bool,
    marks: u64,
    pods: HashMap<PodUid, u64>,
}

/// A note that was taken at some time; a later one of the same Pod is another.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) pod: PodUid,
    mark: u64,
}

impl Unkept {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keeper does not know how this Pod is now.
    pub(crate) fn note(&self, pod: &PodUid) {
        let mut state = self.lock();
        if state.linked {
            state.marks += 1;
            let mark = state.marks;
            state.pods.insert(pod.clone(), mark);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// A keeper is there: what changes from now on it is to be told.
    pub(crate) fn link(&self) {
        self.lock().linked = true;
    }

    /// The keeper is gone: nobody is to be waited for.
    pub(crate) fn unlink(&self) {
        let mut state = self.lock();
        state.linked = false;
        state.pods.clear();
        drop(state);
        self.told.notify_waiters();
    }

    /// Whether there is a keeper.
    pub(super) fn is_linked(&self) -> bool {
        self.lock().linked
    }

    /// What is to be told next.
    pub(crate) fn next(&self) -> Option<Note> {
        let state = self.lock();
        let (pod, mark) = state.pods.iter().min_by_key(|(_, mark)| **mark)?;
        Some(Note {
            pod: pod.clone(),
            mark: *mark,
        })
    }

    /// It was told.
    pub(crate) fn told(&self, note: &Note) {
        let mut state = self.lock();
        if state.pods.get(&note.pod) == Some(&note.mark) {
            state.pods.remove(&note.pod);
        }
        drop(state);
        self.told.notify_waiters();
    }

    /// Returns when there is something to tell.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn changed(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.lock().pods.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Returns when the keeper knows of this Pod, or there is no keeper.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn kept(&self, pod: &PodUid) {
        loop {
            let told = self.told.notified();
            if !self.lock().pods.contains_key(pod) {
                return;
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_enrols_waits_until_the_keeper_knows_and_never_without_one() {
        let (unkept, pod) = (Unkept::default(), PodUid::new("a"));
        let second = Duration::from_secs(1);
        unkept.note(&pod);
        unkept.kept(&pod).await;
        unkept.link();
        unkept.note(&pod);
        assert!(timeout(second, unkept.kept(&pod)).await.is_err());
        let note = unkept.next().unwrap();
        unkept.note(&pod);
        unkept.told(&note);
        let again = timeout(second, unkept.kept(&pod)).await;
        assert!(again.is_err(), "an older note covers a newer one");
        unkept.told(&unkept.next().unwrap());
        unkept.kept(&pod).await;
        unkept.note(&pod);
        unkept.unlink();
        unkept.kept(&pod).await;
    }
}
