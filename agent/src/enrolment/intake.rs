//! `enroll.sock`: publishes it, accepts connections and bounds them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::conversation::Shared;
use super::descriptor::sockopt::netns_cookie;
use super::readiness::watch;
use super::registry::Registry;
use super::waiting::Waiting;
use super::{Enroller, Settings};
use crate::metrics::Metrics;
use crate::socket;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;
/// After a failed accept, which is mostly a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The enrolment socket and all that enrols through it.
#[derive(Debug)]
pub struct Intake<E> {
    socket: AsyncFd<Arc<OwnedFd>>,
    shared: Arc<Shared<E>>,
}

impl<E: Enroller> Intake<E> {
    /// Publishes the socket: bound aside and renamed into place, so that there is no moment
    /// without one, and open to every user.
    ///
    /// # Errors
    /// When the directory is missing or not writable, or the path is too long for a socket.
    pub fn bind(
        settings: Settings,
        enroller: E,
        metrics: Metrics,
        registry: Arc<Registry>,
    ) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        socket::publish(&settings.socket, |aside| {
            rustix::net::bind(&socket, &SocketAddrUnix::new(aside)?)?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(())
        })?;
        let probe = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
        let shared = Shared {
            examining: Arc::new(Semaphore::new(settings.max_blocking)),
            accepting: Arc::new(Semaphore::new(settings.max_blocking)),
            closing: Arc::new(Semaphore::new(settings.max_blocking)),
            own: netns_cookie(probe.as_fd()),
            settings,
            enroller,
            metrics,
            registry,
        };
        Ok(Self {
            socket: watch(Arc::new(socket))?,
            shared: Arc::new(shared),
        })
    }

    /// Enrols Pods until `shutdown`, and then ends what is under way. Never ends by itself.
    ///
    /// Listeners of enrolled Pods live on in the registry.
    pub async fn run(self, shutdown: CancellationToken) {
        let tracker = TaskTracker::new();
        let mut waiting = Waiting::new(self.shared.settings.max_waiting);
        // A connection counts until it is closed, and a close may block.
        let connections = Arc::new(Semaphore::new(2 * self.shared.settings.max_waiting));
        let accept_all = async {
            loop {
                let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                    return;
                };
                match self.accept().await {
                    Ok(socket) => {
                        let place = waiting.enter();
                        let shared = Arc::clone(&self.shared);
                        tracker.spawn(shared.converse(socket, place, shutdown.clone(), permit));
                    }
                    Err(error) => {
                        self.shared.metrics.accept_errors.inc();
                        tracing::debug!(%error, "failed to accept an enrolment");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
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

    async fn accept(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        self.socket
            .async_io(Interest::READABLE, |socket| {
                Ok(rustix::net::accept_with(socket, flags)?)
            })
            .await
    }
}
