//! A connection between the driver and an agent: messages, with sockets beside them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::protocol::{MAX_PACKET_BYTES, Message};
use crate::packets::Packets;

/// One connection.
#[derive(Debug)]
pub(crate) struct Line(Packets);

impl Line {
    /// Takes over a connected socket that does not block.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Packets::new(socket).map(Self)
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
        self.0.send(&packet, &handed).await
    }

    /// Receives a message with its descriptors.
    ///
    /// # Errors
    /// When the other side has hung up, or what it sent makes no sense.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn receive(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let packet = self.0.receive(MAX_PACKET_BYTES).await?;
        let bytes = Zeroizing::new(packet.bytes);
        let message = Message::decode(&bytes)
            .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
        Ok((message, packet.descriptors))
    }
}
