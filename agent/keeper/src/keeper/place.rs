//! Whose place the keeper's Pod takes, and who takes its own.

use std::io;
use std::time::Instant;

use rustix::net::SocketType;
use shared::socket::{Standing, publish};

use super::{Keeper, Problem};
use crate::packet;
use crate::peer::{Item, Kind, Peer};
use crate::protocol::{Message, Role, VERSION};
use crate::succession::Succession;

/// Only the agent's group gets this far.
const SOCKET_MODE: u32 = 0o660;

impl Keeper<'_> {
    pub(super) fn look_for_predecessor(&mut self, now: Instant) -> Result<(), Problem> {
        let socket = match packet::connect(&self.settings.socket) {
            Ok(socket) => socket,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return self.publish();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.succession = Succession::later(now);
                return Ok(());
            }
            Err(source) => {
                let path = self.settings.socket.clone();
                return Err(Problem::Publish { path, source });
            }
        };
        let mut peer = Peer::new(socket, Kind::Predecessor);
        peer.queue(Item::message(&Message::Hello {
            version: VERSION,
            role: Role::Keeper,
            instance: &self.settings.instance,
        }));
        self.peers.push(peer);
        self.succession = Succession::found(now);
        Ok(())
    }

    pub(super) fn publish(&mut self) -> Result<(), Problem> {
        let path = &self.settings.socket;
        let published = publish(path, SocketType::SEQPACKET, SOCKET_MODE);
        self.listener = Some(published.map_err(|source| Problem::Publish {
            path: path.clone(),
            source,
        })?);
        self.succession = Succession::Published;
        self.tell_predecessor();
        let held = self.store.len();
        (self.say)(&format!(
            "holding {held} listeners; agents find me at `{}`",
            self.settings.socket.display()
        ));
        Ok(())
    }

    /// Somebody may have removed the socket, or one that took its place may have died.
    pub(super) fn look_at_path(&mut self) -> Result<(), Problem> {
        let vacant = self
            .listener
            .as_ref()
            .is_none_or(|(_, published)| published.standing() == Standing::Vacant);
        if vacant {
            self.publish()?;
        }
        Ok(())
    }

    /// Whether the keeper of that Pod has handed over to this one.
    pub(super) fn has_taken_from(&self, instance: &str) -> bool {
        self.predecessors.iter().any(|known| known == instance)
    }

    /// Whether the agent of this Pod serves all listeners.
    pub(super) fn serves(&self) -> bool {
        let mut peers = self.peers.iter();
        peers.any(|peer| peer.kind == Kind::Agent && peer.serving)
    }

    /// Whether the agent of a Pod that takes this one's place serves.
    pub(super) fn is_superseded(&self) -> bool {
        let mut peers = self.peers.iter();
        peers.any(|peer| peer.kind == Kind::Successor && peer.serving)
    }

    pub(super) fn tell_agents(&mut self) {
        let superseded = Message::Superseded(self.is_superseded()).encode();
        let agents = self.peers.iter_mut();
        for agent in agents.filter(|peer| peer.kind == Kind::Agent) {
            agent.queue(Item::Packet(superseded.clone()));
        }
    }

    pub(super) fn tell_predecessor(&mut self) {
        let published = self.succession == Succession::Published;
        let serving = Message::Serving(published && self.serves()).encode();
        let keepers = self.peers.iter_mut();
        for keeper in keepers.filter(|peer| peer.kind == Kind::Predecessor) {
            keeper.queue(Item::Packet(serving.clone()));
        }
    }
}
