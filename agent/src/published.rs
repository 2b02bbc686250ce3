//! HTTP sockets that others find by their path, and find there whatever happens to it.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::time::Duration;

use rustix::net::SocketType;
use shared::serve::Accept;
use shared::socket::{Published, Standing, publish};
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
    mode: u32,
    looks: Interval,
}

impl PublishedSocket {
    /// Publishes the socket at `path` with this mode.
    ///
    /// # Errors
    /// When the directory is missing or not writable, or the path is too long for a socket.
    pub fn publish(path: &Path, mode: u32) -> io::Result<Self> {
        let (listener, published) = bound(path, mode)?;
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            listener,
            published,
            mode,
            looks,
        })
    }

    /// What is published, to look at it.
    pub const fn published(&self) -> &Published {
        &self.published
    }

    fn look(&mut self) {
        if self.published.standing() != Standing::Vacant {
            return;
        }
        let path = self.published.path().display().to_string();
        match bound(self.published.path(), self.mode) {
            Ok((listener, published)) => {
                tracing::warn!(path, "a socket was gone; it is published again");
                (self.listener, self.published) = (listener, published);
            }
            Err(error) => tracing::warn!(path, %error, "failed to publish the socket again"),
        }
    }
}

fn bound(path: &Path, mode: u32) -> io::Result<(UnixListener, Published)> {
    let (socket, published) = publish(path, SocketType::STREAM, mode)?;
    Ok((
        UnixListener::from_std(StdListener::from(socket))?,
        published,
    ))
}

impl Accept for PublishedSocket {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                biased;
                accepted = self.listener.accept() => return Ok(accepted?.0),
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
