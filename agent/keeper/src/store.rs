//! What is held.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// Held descriptors by name.
#[derive(Debug, Default)]
pub(crate) struct Store {
    listeners: HashMap<Box<[u8]>, Held>,
    snapshots: Vec<Snapshot>,
    max_listeners: usize,
    /// Where the agent holds connections that it is answering.
    pub(crate) unanswered: Vec<OwnedFd>,
}

/// The listener of one Pod.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) about: Box<[u8]>,
    pub(crate) descriptors: Box<[OwnedFd]>,
}

/// One agent's cache, newest last.
#[derive(Debug)]
struct Snapshot {
    instance: Box<str>,
    memory: OwnedFd,
}

/// More listeners than may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Agents of one node at once: the one that serves, one that takes its place, one that ends.
const MAX_SNAPSHOTS: usize = 4;

impl Store {
    pub(crate) fn new(max_listeners: usize) -> Self {
        Self {
            max_listeners,
            ..Self::default()
        }
    }

    /// Holds a listener, in the place of an earlier one of this key.
    pub(crate) fn hold(&mut self, key: &[u8], held: Held) -> Result<(), Full> {
        if self.listeners.len() >= self.max_listeners && !self.listeners.contains_key(key) {
            return Err(Full);
        }
        self.listeners.insert(key.into(), held);
        Ok(())
    }

    /// Lets a listener go; `false` if it was not held.
    pub(crate) fn release(&mut self, key: &[u8]) -> bool {
        self.listeners.remove(key).is_some()
    }

    pub(crate) fn listener(&self, key: &[u8]) -> Option<&Held> {
        self.listeners.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.listeners.keys().map(AsRef::as_ref)
    }

    /// Whether there is no listener to lose.
    pub(crate) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Holds a snapshot, in the place of an earlier one of this instance.
    pub(crate) fn remember(&mut self, instance: &str, memory: OwnedFd) {
        self.snapshots
            .retain(|known| known.instance.as_ref() != instance);
        if self.snapshots.len() >= MAX_SNAPSHOTS {
            self.snapshots.remove(0);
        }
        self.snapshots.push(Snapshot {
            instance: instance.into(),
            memory,
        });
    }

    pub(crate) fn snapshot(&self, instance: &str) -> Option<&OwnedFd> {
        let mut all = self.snapshots.iter();
        let found = all.find(|known| known.instance.as_ref() == instance);
        found.map(|known| &known.memory)
    }

    /// Whose snapshots there are.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &str> {
        self.snapshots.iter().map(|known| known.instance.as_ref())
    }

    /// Forgets older snapshots than that of `own`, which has taken them in, but for those of agents
    /// that are `linked` and may still be writing.
    pub(crate) fn forget_older(&mut self, own: &str, linked: impl Fn(&str) -> bool) {
        let mut all = self.snapshots.iter();
        let Some(newest) = all.position(|known| known.instance.as_ref() == own) else {
            return;
        };
        let mut index = 0;
        self.snapshots.retain(|known| {
            index += 1;
            index > newest || linked(&known.instance)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::tests::memory;

    fn held(about: &[u8]) -> Held {
        Held {
            about: about.into(),
            descriptors: Box::new([]),
        }
    }

    #[test]
    fn listeners_are_bounded_but_one_that_is_held_may_be_replaced() {
        let mut store = Store::new(2);
        assert!(store.is_empty());
        store.hold(b"a", held(b"1")).unwrap();
        store.hold(b"b", held(b"1")).unwrap();
        assert_eq!(store.hold(b"c", held(b"1")), Err(Full));
        store.hold(b"a", held(b"2")).unwrap();
        assert_eq!(&*store.listener(b"a").unwrap().about, b"2");
        assert!(store.release(b"b"));
        assert!(!store.release(b"b"));
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn a_snapshot_outlives_its_agent_until_another_has_taken_it_in() {
        let instances = |store: &Store| store.instances().map(str::to_owned).collect::<Vec<_>>();
        let mut store = Store::new(1);
        store.remember("old", memory(b"1", true));
        store.forget_older("new", |_| false);
        assert_eq!(instances(&store), ["old"]);
        store.remember("new", memory(b"2", true));
        store.forget_older("new", |instance| instance == "old");
        assert_eq!(instances(&store), ["old", "new"]);
        store.remember("old", memory(b"3", true));
        store.forget_older("new", |_| false);
        assert_eq!(instances(&store), ["new", "old"]);
        store.remember("new", memory(b"4", true));
        store.forget_older("new", |_| false);
        assert_eq!(instances(&store), ["new"]);
    }

    #[test]
    fn snapshots_are_bounded() {
        let mut store = Store::new(1);
        for number in 0..10 {
            store.remember(&number.to_string(), memory(b"", true));
        }
        assert_eq!(store.instances().count(), MAX_SNAPSHOTS);
        assert!(store.snapshot("9").is_some());
    }
}
