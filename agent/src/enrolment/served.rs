//! Listeners that are served, for one Pod or for several that share a network namespace.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntGauge;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::descriptor::local_address;
use crate::tenants::Tenants;

/// Listeners on the loopback addresses of one network namespace, served until this is dropped.
#[derive(Debug)]
pub(super) struct Served {
    sockets: Vec<Arc<OwnedFd>>,
    tenants: Arc<Tenants>,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    listeners: IntGauge,
}

impl Served {
    /// The listeners `sockets` for `tenants`; each is served by one of `tasks` until `stop` is
    /// cancelled. Counts them as one in `listeners`: they are the two addresses of one loopback
    /// interface.
    pub(super) fn new(
        sockets: Vec<Arc<OwnedFd>>,
        tenants: Arc<Tenants>,
        stop: CancellationToken,
        tasks: Vec<JoinHandle<()>>,
        listeners: IntGauge,
    ) -> Self {
        listeners.inc();
        Self {
            sockets,
            tenants,
            stop,
            tasks: Mutex::new(tasks),
            listeners,
        }
    }

    /// 127.0.0.1 first.
    pub(super) fn sockets(&self) -> &[Arc<OwnedFd>] {
        &self.sockets
    }

    /// Where they listen, inside the namespace.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(local_address).collect()
    }

    /// The Pods that they serve.
    pub(super) const fn tenants(&self) -> &Arc<Tenants> {
        &self.tenants
    }

    /// Whether they have ended by themselves.
    pub(super) fn is_dead(&self) -> bool {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().all(JoinHandle::is_finished)
    }

    /// Tells them to end.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// The tasks that serve them, to be waited for; those that nobody has taken yet.
    pub(super) fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut tasks)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
        self.listeners.dec();
    }
}
