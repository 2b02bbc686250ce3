//! `enroll.sock`, that of all Pods and those of single ones: accepts connections and bounds them.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use shared::clock::Clock;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::conversation::Shared;
use super::descriptor::sockopt::netns_cookie;
use super::registry::Registry;
use super::waiting::Waiting;
use super::{Enroller, Settings};
use crate::door::Door;
use crate::metrics::Metrics;
use crate::unanswered::Unanswered;
use crate::workload::PodUid;

/// Every user of every Pod may enrol.
const SOCKET_MODE: u32 = 0o666;
/// The most connections to a Pod's own socket that have not sent their message.
const MAX_WAITING_OF_OWN: usize = 8;

/// All that takes listeners: from Pods, through [`Door`]s, and back from the keeper. A cheap clone.
#[derive(Debug)]
pub struct Intake<E>(Arc<Shared<E>>);

impl<E> Clone for Intake<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Enroller> Intake<E> {
    /// Prepares to take listeners, whose connections are held in `unanswered`; nothing is bound yet.
    ///
    /// # Errors
    /// When the agent's own network namespace cannot be told.
    pub fn new(
        settings: Settings,
        enroller: E,
        clock: Clock,
        metrics: Metrics,
        registry: Arc<Registry>,
        unanswered: Arc<Unanswered>,
    ) -> io::Result<Self> {
        let probe = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
        Ok(Self(Arc::new(Shared {
            examining: Arc::new(Semaphore::new(settings.max_blocking)),
            accepting: Arc::new(Semaphore::new(settings.max_blocking)),
            closing: Arc::new(Semaphore::new(settings.max_blocking)),
            own: netns_cookie(probe.as_fd()),
            clock,
            unanswered,
            settings,
            enroller,
            metrics,
            registry,
        })))
    }

    pub(super) fn shared(&self) -> &Arc<Shared<E>> {
        &self.0
    }

    /// Publishes the socket, open to every user.
    ///
    /// # Errors
    /// When the directory is missing or not writable, or the path is too long for a socket.
    pub fn open(&self) -> io::Result<Door> {
        Door::open(&self.0.settings.socket, SOCKET_MODE)
    }

    /// Where connections are held while their first request is answered.
    pub(crate) fn unanswered(&self) -> &Unanswered {
        &self.0.unanswered
    }

    /// What takes the Pods that enrol here.
    pub(crate) fn enroller(&self) -> &E {
        &self.0.enroller
    }

    /// Enrols Pods at `door` until `shutdown`, and then ends what is under way. Never ends by itself.
    /// Where the door is that of one Pod, `only`, tokens of others are refused.
    ///
    /// Listeners of enrolled Pods live on in the registry.
    pub async fn run(self, mut door: Door, only: Option<PodUid>, shutdown: CancellationToken) {
        let max_waiting = if only.is_some() {
            MAX_WAITING_OF_OWN
        } else {
            self.0.settings.max_waiting
        };
        let tracker = TaskTracker::new();
        let mut waiting = Waiting::new(max_waiting);
        // A connection counts until it is closed, and a close may block.
        let connections = Arc::new(Semaphore::new(2 * max_waiting));
        let accept_all = async {
            while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
                let socket = door.next(&self.0.metrics.accept_errors, Ok).await;
                let (place, only) = (waiting.enter(), only.clone());
                let (shared, stop) = (Arc::clone(&self.0), shutdown.clone());
                tracker.spawn(shared.converse(socket, place, only, stop, permit));
            }
        };
        shutdown.run_until_cancelled(accept_all).await;
        tracker.close();
        tracker.wait().await;
    }
}
