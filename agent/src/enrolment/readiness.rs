//! Readiness of a socket, for kinds that tokio has no type for.

#![expect(
    unsafe_code,
    reason = "tokio's registration has no safe form that is not deprecated"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `socket` for something to read or accept.
pub(crate) fn watch(socket: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an `Arc<OwnedFd>` names the same open descriptor as long as it lives, and the
    // `AsyncFd` owns it; nothing here gives mutable access to it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}
