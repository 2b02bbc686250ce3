//! HTTP sockets that others find by their path, and find there whatever happens to it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::time::Duration;

use rustix::net::SocketType;
use shared::serve::{Accept, Eager};
use shared::socket::{Published, publish};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often it is looked whether the published path still leads to a live socket.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The published socket. It is published again where it is removed, or where that of an agent which
/// took its place has died.
#[derive(Debug)]
pub struct PublishedSocket {
    listener: UnixListener,
    published: Published,
    looks: Interval,
}

impl PublishedSocket {
    /// Publishes the socket at `path` with this mode.
    ///
    /// # Errors
    /// When the directory is missing or not writable, or the path is too long for a socket.
    pub fn publish(path: &Path, mode: u32) -> io::Result<Self> {
        let (socket, published) = publish(path, SocketType::STREAM, mode)?;
        Ok(Self {
            listener: listener(socket)?,
            published,
            looks: looks(),
        })
    }

    /// What is published, to look at it.
    pub const fn published(&self) -> &Published {
        &self.published
    }

    fn look(&mut self) {
        again(&mut self.published, &mut self.listener, listener);
    }
}

fn listener(socket: OwnedFd) -> io::Result<UnixListener> {
    UnixListener::from_std(StdListener::from(socket))
}

/// The times at which a published socket looks at its path.
pub(crate) fn looks() -> Interval {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// Publishes a socket again where nobody listens at its path any more, and puts what `make` makes of
/// it in the place of the old one.
pub(crate) fn again<S>(
    published: &mut Published,
    socket: &mut S,
    make: impl FnOnce(OwnedFd) -> io::Result<S>,
) {
    let next = match published.again() {
        Ok(None) => return,
        Ok(Some((next, there))) => make(next).map(|next| (next, there)),
        Err(error) => Err(error),
    };
    let path = published.path().display().to_string();
    match next {
        Ok(next) => {
            tracing::warn!(path, "a socket was gone; it is published again");
            (*socket, *published) = next;
        }
        Err(error) => tracing::warn!(path, %error, "failed to publish the socket again"),
    }
}

impl Accept for PublishedSocket {
    type Io = Eager<UnixStream>;

    async fn accept(&mut self) -> io::Result<Eager<UnixStream>> {
        loop {
            tokio::select! {
                biased;
                accepted = self.listener.accept() => return Ok(Eager::new(accepted?.0)),
                _ = self.looks.tick() => {}
            }
            self.look();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_removed_is_published_again_and_a_successors_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let mut socket = PublishedSocket::publish(&path, 0o600).unwrap();
        std::fs::remove_file(&path).unwrap();
        let accepting = tokio::spawn(async move { socket.accept().await.map(|_| socket) });
        let connected = timeout(Duration::from_secs(10), async {
            while UnixStream::connect(&path).await.is_err() {
                tokio::task::yield_now().await;
            }
        });
        connected.await.unwrap();
        let mut socket = accepting.await.unwrap().unwrap();

        let successor = PublishedSocket::publish(&path, 0o600).unwrap();
        socket.look();
        drop(socket);
        UnixStream::connect(&path).await.unwrap();
        drop(successor);
    }
}
