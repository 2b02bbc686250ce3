//! How the link stands, for those who wait for it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// What others want to know of the link.
#[derive(Debug, Default)]
pub struct Standing(watch::Sender<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Everything that the keeper held has been taken over, once.
    synced: bool,
    /// An agent that takes this one's place serves.
    superseded: bool,
}

impl Standing {
    pub(super) fn sync(&self) {
        self.0.send_modify(|state| state.synced = true);
    }

    pub(super) fn supersede(&self, superseded: bool) {
        self.0.send_modify(|state| state.superseded = superseded);
    }

    /// Whether everything that the keeper of this Pod held has been taken over, at some time.
    pub fn is_synced(&self) -> bool {
        self.0.borrow().synced
    }

    /// Whether the agent of a Pod that takes this one's place serves all listeners.
    pub fn is_superseded(&self) -> bool {
        self.0.borrow().superseded
    }

    /// Waits until what the keeper held is taken over; `false` if that takes longer than `limit`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn synced(&self, limit: Duration) -> bool {
        let mut states = self.0.subscribe();
        let ready = states.wait_for(|state| state.synced || state.superseded);
        matches!(timeout(limit, ready).await, Ok(Ok(_)))
    }

    /// Waits until another agent serves in this one's place; `false` if none does within `limit`, or
    /// this one has no keeper to hand over to.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn superseded(&self, limit: Duration) -> bool {
        if !self.is_synced() {
            return self.is_superseded();
        }
        let mut states = self.0.subscribe();
        let ready = states.wait_for(|state| state.superseded);
        matches!(timeout(limit, ready).await, Ok(Ok(_)))
    }
}
