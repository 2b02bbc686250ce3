//! Makes a listener that the agent alone holds, in a Pod's network namespace, without any
//! privilege.
//!
//! Passing a descriptor shares the open socket: its sender may have kept it, and could block an
//! accept or a close, or steal connections. But a socket that the agent *accepts* is nobody
//! else's. So it accepts one connection, closes the listener it was handed, and turns the accepted
//! socket into a listener. `tests/kernels` does it on the kernels that nodes run, from 5.10 on.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::net::sockopt::{self, Timeout};

use super::descriptor::{Problem, check_untampered};
use super::handed::close;

/// `caios-enroll` has connected before it sends, so the connection is there at once.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(1);
/// The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReownError {
    #[error("no connection was waiting on it")]
    NoConnection,
    #[error("{0}")]
    Problem(#[from] Problem),
    #[error(
        "another process in the Pod listens on port {0} already; end it or choose another port"
    )]
    PortTaken(u16),
    #[error("failed to {what}: {errno}")]
    Kernel { what: &'static str, errno: Errno },
}

fn kernel(what: &'static str) -> impl Fn(Errno) -> ReownError {
    move |errno| ReownError::Kernel { what, errno }
}

/// Makes a listener on `address:port` of a connection that waits on `handed`, and closes `handed`.
///
/// Blocks up to a second; longer only if the peer wins a race against two guards. The listener
/// does not block and has no linger.
pub(super) fn reown(handed: OwnedFd, address: IpAddr, port: u16) -> Result<OwnedFd, ReownError> {
    let socket = accept_within(handed.as_fd(), ACCEPT_TIMEOUT)?;
    close(handed);
    // What the peer set on its listener was inherited, but from here on nobody else holds it.
    check_untampered(socket.as_fd())?;
    rustix::net::connect_unspec(&socket).map_err(kernel("disconnect the accepted socket"))?;
    sockopt::set_socket_reuseport(&socket, false).map_err(kernel("clear SO_REUSEPORT"))?;
    sockopt::set_socket_reuseaddr(&socket, true).map_err(kernel("set SO_REUSEADDR"))?;
    match rustix::net::bind(&socket, &SocketAddr::new(address, port)) {
        Err(Errno::ADDRINUSE) => return Err(ReownError::PortTaken(port)),
        bound => bound.map_err(kernel("bind"))?,
    }
    match rustix::net::listen(&socket, BACKLOG) {
        Err(Errno::ADDRINUSE) => Err(ReownError::PortTaken(port)),
        listening => listening.map(|()| socket).map_err(kernel("listen")),
    }
}

/// Accepts a connection of a listener that somebody else may hold too.
///
/// `O_NONBLOCK` is no guard, for the other may clear it between poll and accept; the receive
/// time-out bounds an accept that blocks.
pub(super) fn accept_within(
    listener: BorrowedFd<'_>,
    timeout: Duration,
) -> Result<OwnedFd, ReownError> {
    sockopt::set_socket_timeout(listener, Timeout::Recv, Some(timeout))
        .map_err(kernel("bound the accept"))?;
    let wait = Timespec::try_from(timeout).map_err(|_| ReownError::NoConnection)?;
    match poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&wait)) {
        Ok(0) | Err(Errno::INTR) => return Err(ReownError::NoConnection),
        Ok(_) => {}
        Err(errno) => return Err(kernel("poll")(errno)),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match rustix::net::accept_with(listener, flags) {
        Ok(socket) => socket,
        Err(Errno::AGAIN) => return Err(ReownError::NoConnection),
        Err(errno) => return Err(kernel("accept")(errno)),
    };
    // Linger is inherited, and would make close block.
    sockopt::set_socket_linger(&socket, None).map_err(kernel("clear SO_LINGER"))?;
    Ok(socket)
}
