//! A listener in a Pod's network namespace, to be served.

use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SocketFlags, sockopt};
use shared::serve::{Accept, Eager};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Mode;
use super::descriptor::is_of;
use super::descriptor::sockopt::defer_accept;
use super::readiness::watch;
use super::reown::accept_within;
use crate::unanswered::{Held, Origin, Unanswered};

/// How long a connection may stay in the kernel without a request. Then it is accepted all the same,
/// and the time for a head runs.
const DEFERRED_SECONDS: i32 = 5;
/// What an accept may take when the Pod may have kept the listener too.
const PLAIN_ACCEPT_TIMEOUT: Duration = Duration::from_millis(200);

/// A listener in a Pod's network namespace.
#[derive(Debug)]
pub struct PodListener {
    socket: AsyncFd<Arc<OwnedFd>>,
    mode: Mode,
    blocking: Arc<Semaphore>,
    origin: Origin,
    unanswered: Arc<Unanswered>,
    /// Connections that an agent before this one had accepted and not answered.
    left: Vec<OwnedFd>,
}

impl PodListener {
    /// Takes over a listening socket; `blocking` bounds the threads of plain accepts, and `unanswered`
    /// holds its connections while their first request is answered.
    pub(super) fn new(
        socket: Arc<OwnedFd>,
        mode: Mode,
        blocking: Arc<Semaphore>,
        unanswered: Arc<Unanswered>,
    ) -> io::Result<Self> {
        // A connection without a request is of no use yet, and would be cut if this agent died.
        // A kernel that does not know the option serves as well.
        let _ = defer_accept(socket.as_fd(), DEFERRED_SECONDS);
        let origin = Origin::of(&socket)?;
        let mut left = unanswered.left_on(origin);
        left.retain(|connection| is_of(connection, &socket));
        Ok(Self {
            socket: watch(socket)?,
            mode,
            blocking,
            origin,
            unanswered,
            left,
        })
    }

    fn held(&self, connection: OwnedFd) -> io::Result<Eager<TcpStream, Held>> {
        let held = self.unanswered.hold(connection.as_fd(), self.origin);
        sockopt::set_socket_linger(&connection, None)?;
        let stream = TcpStream::from_std(StdStream::from(connection))?;
        Ok(Eager::held(stream, held))
    }
}

impl Accept for PodListener {
    type Io = Eager<TcpStream, Held>;

    /// Accepts one connection, without linger, and holds it where it outlives this agent. Those that
    /// an agent before this one left come first.
    ///
    /// # Errors
    /// What `accept` says. The listener stays good; wait a little and go on.
    ///
    /// # Cancel safety
    /// Safe in [`Mode::Reown`]. In [`Mode::Plain`] a connection that is being accepted is closed.
    async fn accept(&mut self) -> io::Result<Eager<TcpStream, Held>> {
        if let Some(left) = self.left.pop() {
            return self.held(left);
        }
        loop {
            let mut ready = self.socket.readable().await?;
            let accepted = match self.mode {
                Mode::Reown => {
                    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                    let accept = |socket: &AsyncFd<Arc<OwnedFd>>| {
                        Ok(rustix::net::accept_with(socket.get_ref().as_fd(), flags)?)
                    };
                    match ready.try_io(accept) {
                        Ok(accepted) => accepted?,
                        Err(_would_block) => continue,
                    }
                }
                Mode::Plain => {
                    let permit = Arc::clone(&self.blocking).acquire_owned().await;
                    let listener = Arc::clone(self.socket.get_ref());
                    let accept = move || {
                        let accepted = accept_within(listener.as_fd(), PLAIN_ACCEPT_TIMEOUT);
                        drop(permit);
                        accepted
                    };
                    match tokio::task::spawn_blocking(accept).await? {
                        Ok(accepted) => accepted,
                        Err(_stolen_or_none) => {
                            ready.clear_ready();
                            continue;
                        }
                    }
                }
            };
            return self.held(accepted);
        }
    }
}
