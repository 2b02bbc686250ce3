//! An enrolled Pod, and the witness of its life.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use prometheus::IntGauge;
use rustix::io::Errno;
use rustix::net::netdevice;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::descriptor::{Namespace, POD_INTERFACE, addresses};

/// A Pod whose listeners are served until this is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) namespace: Namespace,
    witness: Arc<OwnedFd>,
    stop: CancellationToken,
    served: Vec<JoinHandle<()>>,
    listeners: IntGauge,
}

impl Registration {
    /// Registers listeners in `namespace`, the first of which is `witness`; each is served by one
    /// of the tasks in `served` until `stop` is cancelled. Counts them as one in `listeners`: they are
    /// the two addresses of one loopback interface.
    pub(super) fn new(
        namespace: Namespace,
        witness: Arc<OwnedFd>,
        stop: CancellationToken,
        served: Vec<JoinHandle<()>>,
        listeners: IntGauge,
    ) -> Self {
        listeners.inc();
        Self {
            namespace,
            witness,
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

    /// Waits until its requests in flight have ended too.
    pub(super) async fn ended(&mut self) {
        for served in &mut self.served {
            // A listener whose task has failed has ended all the same.
            let _ = served.await;
        }
    }

    /// Through what its interfaces can be looked up.
    pub(super) fn witness(&self) -> Witness {
        Witness {
            socket: Arc::clone(&self.witness),
            interfaces: self.namespace.interfaces.clone(),
        }
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
        let socket = self.socket.as_fd();
        let absent = |index: &u32| {
            matches!(
                netdevice::index_to_name_inlined(socket, *index),
                Err(Errno::NODEV | Errno::NXIO)
            )
        };
        !self.interfaces.is_empty()
            && self.interfaces.iter().all(absent)
            && netdevice::name_to_index(socket, POD_INTERFACE) == Err(Errno::NODEV)
    }
}
