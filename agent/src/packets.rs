//! A connection on which whole packets go, with descriptors beside them.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use keeper::packet::{self, Packet};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep};

use crate::enrolment::watch;

/// A side that takes nothing for so long is hung up on.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two tries to send: the kernel does not tell when it has room for descriptors again.
const SEND_RETRY: Duration = Duration::from_millis(2);

/// One connection.
#[derive(Debug)]
pub(crate) struct Packets(AsyncFd<Arc<OwnedFd>>);

impl Packets {
    /// Takes over a connected socket that does not block.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(watch(Arc::new(socket))?))
    }

    /// Sends a packet and descriptors with it.
    ///
    /// # Errors
    /// When the other side is gone, or takes nothing for 2 s.
    ///
    /// # Cancel safety
    /// Safe: the packet is sent or not.
    pub(crate) async fn send(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let until = Instant::now() + SEND_TIMEOUT;
        loop {
            match packet::send(self.0.get_ref(), bytes, descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
            if Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(SEND_RETRY).await;
        }
    }

    /// Receives a packet of at most `most` bytes with its descriptors.
    ///
    /// # Errors
    /// When the other side has hung up, or what it sent is longer.
    ///
    /// # Cancel safety
    /// Safe: a packet is taken only when it is returned.
    pub(crate) async fn receive(&self, most: usize) -> io::Result<Packet> {
        let receive = |socket: &Arc<OwnedFd>| packet::receive_up_to(socket, most);
        let packet = self.0.async_io(Interest::READABLE, receive).await?;
        if packet.bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(packet)
    }
}
