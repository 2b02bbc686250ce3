//! An enrolled Pod, and the witness of its life.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::netdevice;

use super::Listed;
use super::about::About;
use super::descriptor::{Cookie, POD_INTERFACE, addresses};
use super::served::Served;
use crate::tenants::Tenancy;

/// A Pod that is served until this is dropped; its listeners, until the last Pod that they serve is.
#[derive(Debug)]
pub(super) struct Registration {
    /// The network namespace of its listeners.
    pub(super) cookie: Cookie,
    pub(super) about: About,
    pub(super) served: Arc<Served>,
    /// Its listeners accept its tokens as long as this lasts.
    _tenancy: Tenancy,
    /// What else lasts as long.
    _listed: Vec<Listed>,
}

impl Registration {
    /// Registers a Pod with listeners in the network namespace `cookie`, whose `tenancy` it is.
    /// `listed` is dropped with it.
    pub(super) const fn new(
        about: About,
        cookie: Cookie,
        served: Arc<Served>,
        tenancy: Tenancy,
        listed: Vec<Listed>,
    ) -> Self {
        Self {
            cookie,
            about,
            served,
            _tenancy: tenancy,
            _listed: listed,
        }
    }

    /// Whether its Pod's interfaces have gone.
    pub(super) fn is_gone(&self) -> bool {
        self.witness().is_some_and(|witness| witness.is_gone())
    }

    /// Through what its interfaces can be looked up; `None` for one without a listener. Those of the
    /// node say nothing of a Pod that shares them.
    pub(super) fn witness(&self) -> Option<Witness> {
        Some(Witness {
            socket: Arc::clone(self.served.sockets().first()?),
            interfaces: if self.about.host_network {
                Vec::new()
            } else {
                self.about.interfaces.clone()
            },
        })
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
