//! The Pods of this node, as far as the API server has shown them.

use std::collections::HashMap;
use std::time::Duration;

use kube::runtime::watcher::Event;
use tokio::time::Instant;

use super::pod::{Object, Seen};
use crate::workload::PodUid;

/// More Pods than this are not kept: a node has some hundreds, those that have finished included.
const MOST: usize = 4_096;

/// How long after its last failure the watch counts as interrupted: longer than the pause between
/// two tries. That it runs again shows only by what it brings, which may be nothing for hours.
const RECOVERY: Duration = Duration::from_mins(2);

/// The Pods of one node.
#[derive(Debug)]
pub(super) struct Pods {
    node: String,
    known: HashMap<PodUid, Seen>,
    /// A new listing grows beside the old one.
    listing: Option<HashMap<PodUid, Seen>>,
    /// A listing was complete, and not empty: at least the agent's own Pod is on this node. Of an
    /// empty one nothing follows until a Pod appears: it is from before this node had any, or a mistake
    /// of the API server.
    is_listed: bool,
    is_cut: bool,
    failed: Option<Instant>,
}

impl Pods {
    /// Knows none yet.
    pub(super) fn new(node: String) -> Self {
        Self {
            node,
            known: HashMap::new(),
            listing: None,
            is_listed: false,
            is_cut: false,
            failed: None,
        }
    }

    /// Takes over what the watch shows.
    pub(super) fn apply(&mut self, event: Event<Object>) {
        match event {
            Event::Init => self.listing = Some(HashMap::new()),
            Event::InitApply(object) => {
                if let Some(mut listing) = self.listing.take() {
                    self.remember(&mut listing, object);
                    self.listing = Some(listing);
                }
            }
            Event::InitDone => {
                if let Some(listing) = self.listing.take() {
                    self.is_listed = !listing.is_empty();
                    self.known = listing;
                }
                self.failed = None;
            }
            Event::Apply(object) => {
                let mut known = std::mem::take(&mut self.known);
                self.remember(&mut known, object);
                self.known = known;
                self.is_listed |= !self.known.is_empty();
            }
            Event::Delete(object) => {
                self.known.remove(&object.seen.pod.uid);
            }
        }
    }

    fn remember(&mut self, pods: &mut HashMap<PodUid, Seen>, Object { node, seen, .. }: Object) {
        if node != self.node {
            return;
        }
        if pods.len() < MOST || pods.contains_key(&seen.pod.uid) {
            pods.insert(seen.pod.uid.clone(), seen);
        } else {
            self.is_cut = true;
        }
    }

    /// The watch has failed.
    pub(super) fn interrupted(&mut self, now: Instant) {
        self.failed = Some(now);
    }

    /// Whether what is known is what the API server knows now, so that a Pod that is not known does
    /// not exist there.
    pub(super) fn is_current(&self, now: Instant) -> bool {
        let interrupted = self.failed.is_some_and(|failed| now < failed + RECOVERY);
        self.is_listed && !self.is_cut && !interrupted
    }

    /// Whether a Pod that is not known may have ended.
    pub(super) const fn is_listed(&self) -> bool {
        self.is_listed
    }

    pub(super) fn get(&self, pod: &PodUid) -> Option<&Seen> {
        self.known.get(pod)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Seen> {
        self.known.values()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::script::{object, object_on};

    fn listed(pods: &mut Pods, names: &[&str]) {
        pods.apply(Event::Init);
        for name in names {
            pods.apply(Event::InitApply(object(name)));
        }
        pods.apply(Event::InitDone);
    }

    fn knows(pods: &Pods, name: &str) -> bool {
        pods.get(&PodUid::new(name)).is_some()
    }

    #[test]
    fn a_new_listing_replaces_the_old_one_when_it_is_complete() {
        let mut pods = Pods::new("node-a".to_owned());
        listed(&mut pods, &["a", "b"]);
        pods.apply(Event::Init);
        pods.apply(Event::InitApply(object("c")));
        assert!(knows(&pods, "a") && !knows(&pods, "c"));
        pods.apply(Event::InitDone);
        assert!(!knows(&pods, "a") && knows(&pods, "c"));
        pods.apply(Event::Delete(object("c")));
        assert_eq!(pods.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_listing_and_an_interrupted_watch_prove_nothing() {
        let mut pods = Pods::new("node-a".to_owned());
        assert!(!pods.is_current(Instant::now()), "nothing was listed yet");
        listed(&mut pods, &["a"]);
        assert!(pods.is_current(Instant::now()));
        listed(&mut pods, &[]);
        assert!(!pods.is_current(Instant::now()));
        pods.apply(Event::Apply(object("a")));
        assert!(pods.is_current(Instant::now()), "a node gets its first Pod");
        listed(&mut pods, &["a"]);

        pods.interrupted(Instant::now());
        tokio::time::advance(RECOVERY.saturating_sub(Duration::from_millis(1))).await;
        pods.apply(Event::Apply(object("b")));
        assert!(!pods.is_current(Instant::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(pods.is_current(Instant::now()));
        pods.interrupted(Instant::now());
        listed(&mut pods, &["a"]);
        assert!(pods.is_current(Instant::now()), "a listing is news");
    }

    #[test]
    fn pods_of_other_nodes_and_too_many_pods_are_not_kept() {
        let mut pods = Pods::new("node-a".to_owned());
        listed(&mut pods, &["a"]);
        pods.apply(Event::Apply(object_on("elsewhere", "node-b")));
        assert!(!knows(&pods, "elsewhere"));
        for number in 0..MOST {
            pods.apply(Event::Apply(object(&format!("pod-{number}"))));
        }
        assert_eq!(pods.len(), MOST);
        assert!(!pods.is_current(Instant::now()));
    }
}
