//! The Pods that are served, kept for people: enrolment itself knows them by uid alone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use shared::clock::Clock;

use super::document::{PodLine, Refusal};
use crate::error::Error;
use crate::workload::{Pod, PodUid};

/// What is kept of a message, in bytes: a Pod must not fill the memory by failing.
const LONGEST_MESSAGE: usize = 512;

/// The Pods whose listeners are served. As many as are enrolled, so bounded like those.
#[derive(Debug)]
pub struct Ledger {
    clock: Clock,
    pods: Mutex<HashMap<PodUid, Entry>>,
}

#[derive(Debug)]
struct Entry {
    pod: Pod,
    since: Timestamp,
    listeners: Vec<SocketAddr>,
    last_error: Option<Refusal>,
}

impl Ledger {
    /// An empty one.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            pods: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PodUid, Entry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a listener of `pod` at `address`, inside the Pod, until the guard is dropped.
    pub fn list(self: &Arc<Self>, pod: &Pod, address: SocketAddr) -> Listed {
        let mut pods = self.lock();
        let entry = pods.entry(pod.uid.clone()).or_insert_with(|| Entry {
            pod: pod.clone(),
            since: Timestamp::MIN,
            listeners: Vec::new(),
            last_error: None,
        });
        // Of a new sandbox, where there was one before.
        entry.since = self.clock.now();
        entry.listeners.push(address);
        drop(pods);
        Listed {
            ledger: Arc::clone(self),
            pod: pod.uid.clone(),
            address,
        }
    }

    /// Remembers what a request on the listener of `pod` got in place of credentials.
    pub fn failed(&self, pod: &PodUid, error: &Error) {
        let at = self.clock.now();
        if let Some(entry) = self.lock().get_mut(pod) {
            let mut message = error.to_string();
            if message.len() > LONGEST_MESSAGE {
                message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
                message.push('…');
            }
            let status = error.status();
            entry.last_error = Some(Refusal {
                at,
                status,
                message,
            });
        }
    }

    /// All of them, by namespace and name.
    pub fn pods(&self) -> Vec<PodLine> {
        let pods = self.lock();
        let lines = pods.values().map(|entry| {
            let Entry { pod, since, .. } = entry;
            let mut listeners: Vec<_> = entry.listeners.iter().map(ToString::to_string).collect();
            listeners.dedup();
            PodLine {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.to_string(),
                service_account: pod.service_account.clone(),
                listeners,
                since: *since,
                last_error: entry.last_error.clone(),
            }
        });
        let mut lines: Vec<_> = lines.collect();
        drop(pods);
        lines.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
        lines
    }
}

/// A listener that is served.
#[derive(Debug)]
pub struct Listed {
    ledger: Arc<Ledger>,
    pod: PodUid,
    address: SocketAddr,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut pods = self.ledger.lock();
        if let Some(entry) = pods.get_mut(&self.pod) {
            if let Some(ended) = entry.listeners.iter().position(|at| *at == self.address) {
                entry.listeners.remove(ended);
            }
            if entry.listeners.is_empty() {
                pods.remove(&self.pod);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pod(name: &str) -> Pod {
        Pod {
            uid: PodUid::new(name),
            name: name.to_owned(),
            namespace: "research".to_owned(),
            service_account: "trainer".to_owned(),
        }
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_is_listed_with_all_its_listeners_until_the_last_one_ends() {
        let ledger = Ledger::new(Clock::anchored(Timestamp::UNIX_EPOCH));
        let first = ledger.list(&pod("b"), at("127.0.0.1:27169"));
        let second = ledger.list(&pod("b"), at("[::1]:27169"));
        let other = ledger.list(&pod("a"), at("127.0.0.1:1024"));
        let pods = ledger.pods();
        assert_eq!(
            pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(pods[1].listeners, ["127.0.0.1:27169", "[::1]:27169"]);
        drop((first, other));
        assert_eq!(ledger.pods()[0].listeners, ["[::1]:27169"]);
        drop(second);
        assert!(ledger.pods().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_sandbox_counts_from_its_own_enrolment_and_outlives_the_old_one() {
        let ledger = Ledger::new(Clock::anchored(Timestamp::UNIX_EPOCH));
        let old = ledger.list(&pod("a"), at("127.0.0.1:27169"));
        tokio::time::advance(Duration::from_mins(1)).await;
        let _new = ledger.list(&pod("a"), at("127.0.0.1:27169"));
        drop(old);
        let pods = ledger.pods();
        assert_eq!(pods[0].since, Timestamp::from_second(60).unwrap());
        assert_eq!(pods[0].listeners, ["127.0.0.1:27169"]);
    }

    #[test]
    fn the_last_error_of_a_listed_pod_is_kept_and_cut() {
        let ledger = Ledger::new(Clock::anchored(Timestamp::UNIX_EPOCH));
        let _listed = ledger.list(&pod("a"), at("127.0.0.1:27169"));
        ledger.failed(&PodUid::new("a"), &Error::Forbidden("first".to_owned()));
        ledger.failed(&PodUid::new("a"), &Error::Malformed("ä".repeat(1_000)));
        ledger.failed(&PodUid::new("nobody"), &Error::Forbidden("x".to_owned()));
        let pods = ledger.pods();
        assert_eq!(pods.len(), 1, "a Pod that is not served got a line");
        let error = pods[0].last_error.as_ref().unwrap();
        assert_eq!(error.status, 400);
        assert!(error.message.len() <= LONGEST_MESSAGE + '…'.len_utf8());
    }
}
