//! Pods that are created one after the other, each required: a lost review is a refused Pod.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tests::wait;

use super::installation::{Installation, PATIENCE, create, is_injected};

/// How many Pods are created at least.
const LEAST: usize = 100;

/// A running load.
pub(super) struct Load {
    ended: Arc<AtomicBool>,
    created: Arc<AtomicUsize>,
    thread: thread::JoinHandle<Vec<String>>,
}

impl Load {
    /// Starts to create Pods in `namespace`.
    pub(super) fn start(installed: &Installation<'static>, namespace: &str) -> Self {
        let (ended, created) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (end, count) = (Arc::clone(&ended), Arc::clone(&created));
        let (cluster, namespace) = (installed.cluster, namespace.to_owned());
        let thread = thread::spawn(move || {
            let mut failures = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let answer = create(cluster, &namespace, "default", true).unwrap();
                AtomicUsize::fetch_add(&count, 1, Ordering::Relaxed);
                if !is_injected(&answer) {
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
