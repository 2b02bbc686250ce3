//! How long something has been the case without a break.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::workload::PodUid;

/// For each Pod since when. What is not said again between two [turns](Self::turn) is forgotten.
#[derive(Debug, Default)]
pub(super) struct Since {
    before: HashMap<PodUid, Instant>,
    still: HashMap<PodUid, Instant>,
}

impl Since {
    /// Begins to look again.
    pub(super) fn turn(&mut self) {
        self.before = std::mem::take(&mut self.still);
    }

    /// It is the case for `pod`: for how long by now.
    pub(super) fn lasts(&mut self, pod: &PodUid, now: Instant) -> Duration {
        let since = self.before.get(pod).copied().unwrap_or(now);
        self.still.insert(pod.clone(), since);
        now.saturating_duration_since(since)
    }
}
