//! The link to the keeper: what must outlive this agent goes there, and what an agent before it left
//! there comes back.
//!
//! What is sent follows from the state of registry and memory, not from a queue of events: whichever
//! side restarts, a new connection begins with everything that the keeper holds, and goes on with
//! what it does not know yet. Start with [`Link::run`].

mod conversation;
mod standing;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keeper::packet;
use prometheus::IntGauge;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::conversation::{Conversation, Ending};
pub use self::standing::Standing;
use crate::enrolment::{Enroller, Intake, Registry};
use crate::metrics::Metrics;
use crate::workload::PodUid;

/// Between two tries to reach the keeper: its container may just be restarting.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// The same where the keeper of a Pod that takes this one's place is there instead.
const SUPERSEDED_INTERVAL: Duration = Duration::from_secs(1);

/// Where the keeper is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its socket.
    pub socket: PathBuf,
    /// The uid of this Pod; its keeper says the same.
    pub instance: String,
}

/// What was written.
#[derive(Debug)]
pub struct SavedMemory {
    /// Sealed memory.
    pub memory: OwnedFd,
    /// Identities with credentials in it.
    pub identities: usize,
}

/// What the agent remembers besides listeners.
pub trait Memory: Send + Sync + 'static {
    /// Writes it into sealed memory.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn save(&self) -> io::Result<SavedMemory>;

    /// Takes over what another agent has saved; `is_first` when this one starts with it.
    ///
    /// # Errors
    /// When `memory` is not what an agent of this form saves.
    fn restore(&self, memory: OwnedFd, is_first: bool) -> io::Result<()>;

    /// Returns when there is something new to save. For one caller.
    ///
    /// # Cancel safety
    /// Must be safe.
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// Leaves renewals to another agent, or no longer.
    fn rest(&self, resting: bool);

    /// Forgets a Pod that has ended.
    fn forget(&self, pod: &PodUid);
}

/// The link of one agent.
pub struct Link<E: Enroller, M> {
    settings: Settings,
    intake: Intake<E>,
    registry: Arc<Registry>,
    memory: Arc<M>,
    metrics: Metrics,
    standing: Arc<Standing>,
}

impl<E: Enroller, M> fmt::Debug for Link<E, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("settings", &self.settings)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

impl<E: Enroller, M: Memory> Link<E, M> {
    /// Prepares the link; nothing is connected yet.
    pub fn new(
        settings: Settings,
        intake: Intake<E>,
        registry: Arc<Registry>,
        memory: Arc<M>,
        metrics: Metrics,
    ) -> Self {
        Self {
            settings,
            intake,
            registry,
            memory,
            metrics,
            standing: Arc::default(),
        }
    }

    /// How the link stands, as long as it runs.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// Keeps the link up until `stop`. Then it sends the last state, says that this agent ends, and
    /// returns. Never fails: without a keeper the agent serves all the same.
    ///
    /// # Cancel safety
    /// Dropped early, it says nothing: to the keeper this agent has crashed.
    pub async fn run(self, stop: CancellationToken) {
        let mut complained = false;
        while !stop.is_cancelled() {
            let ending = match packet::connect(&self.settings.socket) {
                Ok(socket) => {
                    let _connected = Connected::new(&self.metrics.keeper_connected);
                    Conversation::new(&self, socket).run(&stop).await
                }
                Err(error) => Ending::Failed(error),
            };
            self.registry.unkept().unlink();
            self.metrics.kept_identities.set(0);
            let pause = match ending {
                Ending::Done => return,
                Ending::Superseded => {
                    self.follow(true);
                    SUPERSEDED_INTERVAL
                }
                // Its own keeper takes the place in a moment.
                Ending::Elsewhere => {
                    self.follow(false);
                    RETRY_INTERVAL
                }
                // Whether another agent serves it hears when it is linked again; until then somebody
                // must renew.
                Ending::Lost(error) => {
                    self.follow(false);
                    tracing::warn!(%error, "the keeper is gone; its next one gets everything again");
                    complained = false;
                    RETRY_INTERVAL
                }
                Ending::Failed(error) => {
                    self.follow(false);
                    if !std::mem::replace(&mut complained, true) {
                        let socket = self.settings.socket.display();
                        tracing::warn!(%socket, %error, "no keeper: a restart of this agent would lose the Pods' listeners");
                    }
                    RETRY_INTERVAL
                }
            };
            let _stopped = stop.run_until_cancelled(sleep(pause)).await;
        }
    }
}

/// 1 in a gauge, until dropped.
struct Connected<'a>(&'a IntGauge);

impl<'a> Connected<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.set(1);
        Self(gauge)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.set(0);
    }
}
