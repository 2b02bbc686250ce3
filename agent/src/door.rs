//! Sockets for packets that others find by their path, and find there whatever happens to it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use rustix::net::{SocketFlags, SocketType};
use shared::socket::{Published, publish};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Interval, sleep};

use crate::enrolment::watch;
use crate::published::{again, looks};

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket of the kind `SOCK_SEQPACKET`. One that this process has published is published
/// again where it is removed, or where that of an agent which took its place has died.
#[derive(Debug)]
pub struct Door {
    socket: AsyncFd<Arc<OwnedFd>>,
    published: Option<Published>,
    looks: Interval,
}

impl Door {
    /// Publishes the socket at `path` with this mode: bound aside and renamed into place, so that
    /// there is no moment without one.
    ///
    /// # Errors
    /// When the directory is missing or not writable, or the path is too long for a socket.
    pub fn open(path: &Path, mode: u32) -> io::Result<Self> {
        let (socket, published) = publish(path, SocketType::SEQPACKET, mode)?;
        Ok(Self {
            published: Some(published),
            ..Self::over(Arc::new(socket))?
        })
    }

    /// Takes a listening socket that somebody else has published, and sees to.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn over(socket: Arc<OwnedFd>) -> io::Result<Self> {
        Ok(Self {
            socket: watch(socket)?,
            published: None,
            looks: looks(),
        })
    }

    /// Gives what `made` makes of the next connection, however long it takes. What fails meanwhile,
    /// mostly for a lack of descriptors, counts in `errors` and is tried again after a pause.
    ///
    /// # Cancel safety
    /// Safe: a connection is taken only when it is returned.
    pub async fn next<T>(
        &mut self,
        errors: &IntCounter,
        made: impl Fn(OwnedFd) -> io::Result<T>,
    ) -> T {
        loop {
            match self.accept().await.and_then(&made) {
                Ok(made) => return made,
                Err(error) => {
                    errors.inc();
                    tracing::debug!(%error, "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Accepts the next connection.
    ///
    /// # Errors
    /// When the kernel gives none, mostly for a lack of descriptors.
    ///
    /// # Cancel safety
    /// Safe: a connection is taken only when it is returned.
    async fn accept(&mut self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accept = |socket: &Arc<OwnedFd>| Ok(rustix::net::accept_with(socket, flags)?);
        loop {
            tokio::select! {
                accepted = self.socket.async_io(Interest::READABLE, accept) => return accepted,
                _ = self.looks.tick(), if self.published.is_some() => {}
            }
            if let Some(published) = &mut self.published {
                let made = |socket| watch(Arc::new(socket));
                again(published, &mut self.socket, made);
            }
        }
    }
}
