//! Pods that are created one after the other, each required: a lost review is a refused Pod.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tests::injector::{Release, injected, pod};
use tests::wait;

use super::PATIENCE;

/// How many Pods are created at least.
const LEAST: usize = 100;

/// A running load.
pub(super) struct Load {
    ended: Arc<AtomicBool>,
    created: Arc<AtomicUsize>,
    thread: thread::JoinHandle<Vec<String>>,
}

impl Load {
    /// Starts to create Pods in the namespace that is reviewed.
    pub(super) fn start(release: &Release<'static>) -> Self {
        let (ended, created) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (end, count) = (Arc::clone(&ended), Arc::clone(&created));
        let (cluster, pod) = (release.cluster(), pod(&release.target, "default", true));
        let thread = thread::spawn(move || {
            let mut failures = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let answer = cluster.create(&pod).unwrap();
                AtomicUsize::fetch_add(&count, 1, Ordering::Relaxed);
                if !injected(&answer.body) {
                    failures.push(answer.message().to_owned());
                }
            }
            failures
        });
        Self {
            ended,
            created,
            thread,
        }
    }

    /// Waits until enough Pods have been created since the start, and ends.
    ///
    /// # Panics
    /// When one was not injected.
    pub(super) fn end_without_failure(self) {
        let enough = wait::until("enough Pods are created", PATIENCE, || {
            self.created.load(Ordering::Relaxed) > LEAST
        });
        self.ended.store(true, Ordering::Relaxed);
        let failures = self.thread.join().unwrap();
        let count = self.created.load(Ordering::Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {count}: {failures:?}",
            failures.len()
        );
        enough.unwrap();
    }
}
