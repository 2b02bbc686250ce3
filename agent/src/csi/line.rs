//! A connection between the driver and an agent: whole messages, with descriptors beside them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use keeper::packet;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use super::protocol::{MAX_PACKET_BYTES, Message};
use crate::enrolment::watch;

/// A side that takes nothing for so long is hung up on.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two tries to send: the kernel does not tell when it has room for descriptors again.
const SEND_RETRY: Duration = Duration::from_millis(2);

/// One connection.
#[derive(Debug)]
pub(crate) struct Line(AsyncFd<Arc<OwnedFd>>);

impl Line {
    /// Takes over a connected socket that does not block.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(watch(Arc::new(socket))?))
    }

    /// Sends a message and descriptors with it.
    ///
    /// # Errors
    /// When the other side is gone, or takes nothing for 2 s.
    ///
    /// # Cancel safety
    /// Safe: the message is sent or not.
    pub(crate) async fn send(&self, message: &Message, sockets: &[Arc<OwnedFd>]) -> io::Result<()> {
        let packet = message.encode();
        let handed: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        let end = Instant::now() + SEND_TIMEOUT;
        let sent = async {
            loop {
                match packet::send(self.0.get_ref(), &packet, &handed) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        sleep(SEND_RETRY).await;
                    }
                    sent => return sent,
                }
            }
        };
        timeout_at(end, sent).await?
    }

    /// Receives a message with its descriptors.
    ///
    /// # Errors
    /// When the other side has hung up, or what it sent makes no sense.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn receive(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let receive = |socket: &Arc<OwnedFd>| packet::receive_up_to(socket, MAX_PACKET_BYTES);
        let packet = self.0.async_io(Interest::READABLE, receive).await?;
        let bytes = Zeroizing::new(packet.bytes);
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let message = Message::decode(&bytes)
            .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
        Ok((message, packet.descriptors))
    }
}
