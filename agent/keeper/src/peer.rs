//! One connection: an agent, or another keeper.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::packet;
use crate::protocol::Message;
use crate::store::{Held, Store};

/// Somebody who is connected.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: OwnedFd,
    pub(crate) kind: Kind,
    /// Its Pod; empty until it has said so.
    pub(crate) instance: String,
    /// Its agent serves all listeners, as far as it has told.
    pub(crate) serving: bool,
    outbox: VecDeque<Item>,
    /// To be hung up on when everything is sent.
    pub(crate) dismissed: bool,
}

/// Who a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has to say who it is by then.
    Stranger(Instant),
    /// The agent of this keeper's Pod.
    Agent,
    /// The keeper of a Pod that takes this one's place.
    Successor,
    /// The keeper of the Pod whose place this one takes.
    Predecessor,
}

/// What is to be sent. Listeners and snapshots are looked up when their turn comes: what has been let
/// go meanwhile is not sent, and what has been replaced is sent as it is now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Listener(Box<[u8]>),
    Gone(Box<[u8]>),
    Snapshot(Box<str>),
    Unanswered,
    Packet(Vec<u8>),
}

impl Item {
    pub(crate) fn message(message: &Message<'_>) -> Self {
        Self::Packet(message.encode())
    }
}

impl Peer {
    pub(crate) fn new(socket: OwnedFd, kind: Kind) -> Self {
        Self {
            socket,
            kind,
            instance: String::new(),
            serving: false,
            outbox: VecDeque::new(),
            dismissed: false,
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn queue(&mut self, item: Item) {
        self.outbox.push_back(item);
    }

    /// How much is still to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Sends as much as there is room for.
    ///
    /// # Errors
    /// When the peer is gone.
    pub(crate) fn flush(&mut self, store: &Store) -> io::Result<()> {
        while let Some(item) = self.outbox.front() {
            match send(&self.socket, item, store) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            self.outbox.pop_front();
        }
        Ok(())
    }
}

fn send(socket: &OwnedFd, item: &Item, store: &Store) -> io::Result<()> {
    match item {
        Item::Listener(key) => match store.listener(key) {
            Some(Held { about, descriptors }) => {
                let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                let packet = Message::Listener { key, about }.encode();
                packet::send(socket, &packet, &descriptors)
            }
            None => Ok(()),
        },
        Item::Snapshot(instance) => match store.snapshot(instance) {
            Some(memory) => {
                let packet = Message::Snapshot { instance }.encode();
                packet::send(socket, &packet, &[memory.as_fd()])
            }
            None => Ok(()),
        },
        Item::Unanswered => {
            let far_ends: Vec<_> = store.unanswered.iter().map(AsFd::as_fd).collect();
            packet::send(socket, &Message::Unanswered.encode(), &far_ends)
        }
        Item::Gone(key) => packet::send(socket, &Message::Gone { key }.encode(), &[]),
        Item::Packet(packet) => packet::send(socket, packet, &[]),
    }
}
