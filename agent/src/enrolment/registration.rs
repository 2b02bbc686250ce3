//! An enrolled Pod, and the witness of its life.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use prometheus::IntGauge;
use rustix::io::Errno;
use rustix::net::netdevice;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::about::About;
use super::descriptor::{Cookie, POD_INTERFACE, addresses};

/// A Pod whose listeners are served until this is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    /// The network namespace of its listeners.
    pub(super) cookie: Cookie,
    pub(super) about: About,
    sockets: Vec<Arc<OwnedFd>>,
    stop: CancellationToken,
    served: Vec<JoinHandle<()>>,
    listeners: IntGauge,
}

impl Registration {
    /// Registers the listeners `sockets` in the network namespace `cookie`; each is served by one of
    /// the tasks in `served` until `stop` is cancelled. Counts them as one in `listeners`: they are
    /// the two addresses of one loopback interface.
    pub(super) fn new(
        about: About,
        cookie: Cookie,
        sockets: Vec<Arc<OwnedFd>>,
        stop: CancellationToken,
        served: Vec<JoinHandle<()>>,
        listeners: IntGauge,
    ) -> Self {
        listeners.inc();
        Self {
            cookie,
            about,
            sockets,
            stop,
            served,
            listeners,
        }
    }

    /// Whether its listeners have ended by themselves.
    pub(super) fn is_dead(&self) -> bool {
        self.served.iter().all(JoinHandle::is_finished)
    }

    /// Tells its listeners to end.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// The tasks that serve its listeners, to be waited for.
    pub(super) fn take_served(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.served)
    }

    /// Its listeners, 127.0.0.1 first.
    pub(super) fn sockets(&self) -> &[Arc<OwnedFd>] {
        &self.sockets
    }

    /// Whether its Pod's interfaces have gone.
    pub(super) fn is_gone(&self) -> bool {
        self.witness().is_some_and(|witness| witness.is_gone())
    }

    /// Through what its interfaces can be looked up; `None` for one without a listener.
    pub(super) fn witness(&self) -> Option<Witness> {
        Some(Witness {
            socket: Arc::clone(self.sockets.first()?),
            interfaces: self.about.interfaces.clone(),
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.stop.cancel();
        self.listeners.dec();
    }
}

/// Through what an enrolled Pod's interfaces can be looked up.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    /// A listener in the Pod's network namespace.
    pub(crate) socket: Arc<OwnedFd>,
    /// The interfaces by which it was known to live when it enrolled, by index.
    pub(crate) interfaces: Vec<u32>,
}

impl Witness {
    /// The IPv4 addresses that the Pod's network namespace has now, without those of loopback;
    /// none where they cannot be read.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        addresses(self.socket.as_fd())
    }

    /// Whether the Pod's interfaces have left its network namespace: it had some, all are absent
    /// for sure, and no other has been made in their place.
    pub(crate) fn is_gone(&self) -> bool {
        Self::is_gone_from(self.socket.as_fd(), &self.interfaces)
    }

    /// As [`is_gone`](Self::is_gone), through any socket in the Pod's network namespace.
    pub(super) fn is_gone_from(socket: BorrowedFd<'_>, interfaces: &[u32]) -> bool {
        let absent = |index: &u32| {
            matches!(
                netdevice::index_to_name_inlined(socket, *index),
                Err(Errno::NODEV | Errno::NXIO)
            )
        };
        !interfaces.is_empty()
            && interfaces.iter().all(absent)
            && netdevice::name_to_index(socket, POD_INTERFACE) == Err(Errno::NODEV)
    }

    /// Whether the Pod's interfaces are there: it had some, and not all of them are absent.
    pub(crate) fn is_alive(&self) -> bool {
        !self.interfaces.is_empty() && !self.is_gone()
    }
}
