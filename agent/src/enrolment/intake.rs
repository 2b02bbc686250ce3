//! `enroll.sock`: publishes it, accepts connections and bounds them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SocketFlags, SocketType};
use shared::clock::Clock;
use shared::socket::{Published, Standing, publish};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::conversation::Shared;
use super::descriptor::sockopt::netns_cookie;
use super::readiness::watch;
use super::registry::Registry;
use super::waiting::Waiting;
use super::{Enroller, Settings};
use crate::metrics::Metrics;
use crate::workload::PodUid;

/// Every user of every Pod may enrol.
const SOCKET_MODE: u32 = 0o666;
/// The most connections to a Pod's own socket that have not sent their message.
const MAX_WAITING_OF_OWN: usize = 8;
/// After a failed accept, which is mostly a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether the published path still leads to a live socket.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// All that takes listeners: from Pods, through [`Door`]s, and back from the keeper. A cheap clone.
#[derive(Debug)]
pub struct Intake<E>(Arc<Shared<E>>);

impl<E> Clone for Intake<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The published enrolment socket.
#[derive(Debug)]
pub struct Door {
    socket: AsyncFd<Arc<OwnedFd>>,
    published: Published,
}

impl<E: Enroller> Intake<E> {
    /// Prepares to take listeners; nothing is bound yet.
    ///
    /// # Errors
    /// When the agent's own network namespace cannot be told.
    pub fn new(
        settings: Settings,
        enroller: E,
        clock: Clock,
        metrics: Metrics,
        registry: Arc<Registry>,
    ) -> io::Result<Self> {
        let probe = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
        Ok(Self(Arc::new(Shared {
            examining: Arc::new(Semaphore::new(settings.max_blocking)),
            accepting: Arc::new(Semaphore::new(settings.max_blocking)),
            closing: Arc::new(Semaphore::new(settings.max_blocking)),
            own: netns_cookie(probe.as_fd()),
            clock,
            settings,
            enroller,
            metrics,
            registry,
        })))
    }

    pub(super) fn shared(&self) -> &Arc<Shared<E>> {
        &self.0
    }

    /// Publishes the socket: bound aside and renamed into place, so that there is no moment
    /// without one, and open to every user.
    ///
    /// # Errors
    /// When the directory is missing or not writable, or the path is too long for a socket.
    pub fn open(&self) -> io::Result<Door> {
        let path = &self.0.settings.socket;
        let (socket, published) = publish(path, SocketType::SEQPACKET, SOCKET_MODE)?;
        Ok(Door {
            socket: watch(Arc::new(socket))?,
            published,
        })
    }

    /// What takes the Pods that enrol here.
    pub(crate) fn enroller(&self) -> &E {
        &self.0.enroller
    }

    /// Enrols one Pod at the listening `socket` of its own until `stop`, and then ends what is under
    /// way. Tokens of other Pods are refused there.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub(crate) fn serve_own(
        self,
        socket: Arc<OwnedFd>,
        pod: &PodUid,
        stop: CancellationToken,
    ) -> io::Result<impl Future<Output = ()> + Send + use<E>> {
        let (socket, pod) = (watch(socket)?, pod.clone());
        Ok(async move {
            let tracker = TaskTracker::new();
            let mut waiting = Waiting::new(MAX_WAITING_OF_OWN);
            let connections = Arc::new(Semaphore::new(2 * MAX_WAITING_OF_OWN));
            let accept_all = async {
                while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
                    match accept(&socket).await {
                        Ok(connection) => {
                            let (place, only) = (waiting.enter(), Some(pod.clone()));
                            let shared = Arc::clone(&self.0);
                            let stop = stop.clone();
                            tracker.spawn(shared.converse(connection, place, only, stop, permit));
                        }
                        Err(error) => self.0.not_accepted(&error).await,
                    }
                }
            };
            stop.run_until_cancelled(accept_all).await;
            tracker.close();
            tracker.wait().await;
        })
    }

    /// Enrols Pods until `shutdown`, and then ends what is under way. Never ends by itself. Where
    /// the published socket is removed, or that of an agent which took its place has died, it is
    /// published again.
    ///
    /// Listeners of enrolled Pods live on in the registry.
    pub async fn run(self, mut door: Door, shutdown: CancellationToken) {
        let tracker = TaskTracker::new();
        let mut waiting = Waiting::new(self.0.settings.max_waiting);
        // A connection counts until it is closed, and a close may block.
        let connections = Arc::new(Semaphore::new(2 * self.0.settings.max_waiting));
        let accept_all = async {
            let mut looks = interval(LOOK_INTERVAL);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                    return;
                };
                let accepted = tokio::select! {
                    accepted = door.accept() => accepted,
                    _ = looks.tick() => {
                        self.look_at(&mut door);
                        continue;
                    }
                };
                match accepted {
                    Ok(socket) => {
                        let place = waiting.enter();
                        let shared = Arc::clone(&self.0);
                        let stop = shutdown.clone();
                        tracker.spawn(shared.converse(socket, place, None, stop, permit));
                    }
                    Err(error) => self.0.not_accepted(&error).await,
                }
            }
        };
        tokio::select! {
            () = accept_all => {}
            () = shutdown.cancelled() => {}
        }
        tracker.close();
        tracker.wait().await;
    }

    fn look_at(&self, door: &mut Door) {
        if door.published.standing() != Standing::Vacant {
            return;
        }
        let path = door.published.path().display().to_string();
        match self.open() {
            Ok(new) => {
                tracing::warn!(path, "the enrolment socket was gone; it is published again");
                *door = new;
            }
            Err(error) => tracing::warn!(path, %error, "failed to publish the socket again"),
        }
    }
}

impl Door {
    async fn accept(&self) -> io::Result<OwnedFd> {
        accept(&self.socket).await
    }
}

impl<E> Shared<E> {
    async fn not_accepted(&self, error: &io::Error) {
        self.metrics.accept_errors.inc();
        tracing::debug!(%error, "failed to accept an enrolment");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn accept(socket: &AsyncFd<Arc<OwnedFd>>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket
        .async_io(Interest::READABLE, |socket| {
            Ok(rustix::net::accept_with(socket, flags)?)
        })
        .await
}
