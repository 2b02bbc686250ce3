//! What peers say, and what follows from it.

use std::io;
use std::os::fd::OwnedFd;

use super::{Keeper, MAX_PEERS, Problem, now};
use crate::descriptor::{Unfit, check_listener, check_slot, check_snapshot};
use crate::packet::{self, Packet};
use crate::peer::{Item, Kind};
use crate::protocol::{Message, Role, VERSION, Verdict};
use crate::store::Held;
use crate::succession::Succession;

/// Packets of one peer before the others have their turn.
const TURN: usize = 64;

impl Keeper<'_> {
    /// Takes in what a peer has sent. The inner result says why it is to be hung up on.
    pub(super) fn listen_to(&mut self, at: usize) -> Result<Result<(), String>, Problem> {
        for _ in 0..TURN {
            let Some(peer) = self.peers.get(at).filter(|peer| !peer.dismissed) else {
                return Ok(Ok(()));
            };
            let packet = match packet::receive(peer.socket()) {
                Ok(packet) => packet,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Ok(())),
                Err(error) => return Ok(Err(error.to_string())),
            };
            if packet.bytes.is_empty() {
                return Ok(Err("it has hung up".to_owned()));
            }
            if let Err(reason) = self.take(at, packet)? {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(()))
    }

    fn take(&mut self, at: usize, packet: Packet) -> Result<Result<(), String>, Problem> {
        let Packet { bytes, descriptors } = packet;
        let message = match Message::decode(&bytes) {
            Ok(message) => message,
            Err(malformed) => return Ok(Err(malformed.to_string())),
        };
        let Some(kind) = self.peers.get(at).map(|peer| peer.kind) else {
            return Ok(Ok(()));
        };
        Ok(match (kind, message) {
            (
                Kind::Stranger(_),
                Message::Hello {
                    version,
                    role,
                    instance,
                },
            ) => {
                self.greet(at, version, role, instance);
                Ok(())
            }
            (Kind::Stranger(_), _) => Err("it does not say who it is".to_owned()),
            (
                Kind::Predecessor,
                Message::Welcome {
                    verdict, instance, ..
                },
            ) => self.welcomed(at, verdict, instance),
            (Kind::Predecessor, Message::Complete) => {
                if matches!(self.succession, Succession::Taking(_)) {
                    self.publish()?;
                }
                Ok(())
            }
            (_, Message::Listener { key, about }) => self.hold(at, key, about, descriptors),
            (_, Message::Gone { key }) => {
                if self.store.release(key) {
                    self.pass_on(at, || Item::Gone(key.into()));
                }
                Ok(())
            }
            (_, Message::Snapshot { instance }) => self.remember(at, instance, descriptors),
            (Kind::Agent, Message::Unanswered) => self.hold_unanswered(descriptors),
            (Kind::Agent | Kind::Successor, Message::Serving(serving)) => {
                if let Some(peer) = self.peers.get_mut(at) {
                    peer.serving = serving;
                }
                match kind {
                    Kind::Agent => self.tell_predecessor(),
                    _ => self.tell_agents(),
                }
                Ok(())
            }
            (Kind::Agent, Message::Leaving) => {
                self.left = true;
                Ok(())
            }
            _ => Ok(()),
        })
    }

    /// Receives who has said who it is.
    fn greet(&mut self, at: usize, version: u8, role: Role, instance: &str) {
        let own = instance == self.settings.instance;
        let (verdict, kind) = match role {
            _ if version != VERSION => (Verdict::Version, None),
            Role::Agent if own => (Verdict::Accepted, Some(Kind::Agent)),
            Role::Agent if self.has_taken_from(instance) && self.serves() => {
                (Verdict::Superseded, None)
            }
            Role::Keeper if self.has_taken_from(instance) => (Verdict::Superseded, None),
            Role::Keeper if !own => (Verdict::Accepted, Some(Kind::Successor)),
            Role::Agent | Role::Keeper => (Verdict::Elsewhere, None),
        };
        let mut items = vec![Item::message(&Message::Welcome {
            version: VERSION,
            verdict,
            instance: &self.settings.instance,
        })];
        if let Some(kind) = kind {
            items.extend(self.store.keys().map(|key| Item::Listener(key.into())));
            let snapshots = self.store.instances();
            items.extend(snapshots.map(|instance| Item::Snapshot(instance.into())));
            if kind == Kind::Agent {
                let superseded = Message::Superseded(self.is_superseded());
                items.push(Item::message(&superseded));
                items.push(Item::Unanswered);
                self.left = false;
            }
            items.push(Item::message(&Message::Complete));
        }
        if let Some(peer) = self.peers.get_mut(at) {
            instance.clone_into(&mut peer.instance);
            match kind {
                Some(kind) => peer.kind = kind,
                None => peer.dismissed = true,
            }
            for item in items {
                peer.queue(item);
            }
        }
    }

    fn welcomed(&mut self, at: usize, verdict: Verdict, instance: &str) -> Result<(), String> {
        match verdict {
            Verdict::Accepted => {
                if let Some(peer) = self.peers.get_mut(at) {
                    instance.clone_into(&mut peer.instance);
                }
                self.predecessors.retain(|known| known != instance);
                self.predecessors.push(instance.to_owned());
                if self.predecessors.len() > MAX_PEERS {
                    self.predecessors.remove(0);
                }
                Ok(())
            }
            Verdict::Elsewhere | Verdict::Superseded => {
                self.succession = Succession::later(now());
                Err("the keeper of another Pod has this place".to_owned())
            }
            Verdict::Version => Err("it speaks another version of the protocol".to_owned()),
        }
    }

    fn hold(
        &mut self,
        at: usize,
        key: &[u8],
        about: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), String> {
        if descriptors.is_empty() {
            return Err("a listener came without a descriptor".to_owned());
        }
        check_all(&descriptors, |one| check_listener(one))?;
        let held = Held {
            about: about.into(),
            descriptors: descriptors.into(),
        };
        if self.store.hold(key, held).is_err() {
            let most = self.settings.max_listeners;
            (self.say)(&format!(
                "a listener is not held: there are {most} already (`--max-listeners`)"
            ));
            return Ok(());
        }
        self.pass_on(at, || Item::Listener(key.into()));
        Ok(())
    }

    fn hold_unanswered(&mut self, far_ends: Vec<OwnedFd>) -> Result<(), String> {
        check_all(&far_ends, |one| check_slot(one))?;
        self.store.unanswered = far_ends;
        Ok(())
    }

    fn remember(
        &mut self,
        at: usize,
        instance: &str,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let Ok([memory]) = <[OwnedFd; 1]>::try_from(descriptors) else {
            return Err("a snapshot came without its descriptor".to_owned());
        };
        check_snapshot(&memory).map_err(|unfit| format!("its snapshot is refused: {unfit}"))?;
        self.store.remember(instance, memory);
        self.forget_older();
        self.pass_on(at, || Item::Snapshot(instance.into()));
        Ok(())
    }

    pub(super) fn forget_older(&mut self) {
        let peers = &self.peers;
        let linked = |instance: &str| peers.iter().any(|peer| peer.instance == instance);
        self.store.forget_older(&self.settings.instance, linked);
    }

    /// Queues something for everybody who is to know what the peer at `from` has said.
    fn pass_on(&mut self, from: usize, item: impl Fn() -> Item) {
        for (at, peer) in self.peers.iter_mut().enumerate() {
            if at != from && !matches!(peer.kind, Kind::Stranger(_)) && !peer.dismissed {
                peer.queue(item());
            }
        }
    }
}

fn check_all(
    descriptors: &[OwnedFd],
    check: impl Fn(&OwnedFd) -> Result<(), Unfit>,
) -> Result<(), String> {
    let refused = |unfit| format!("what it handed over is refused: {unfit}");
    descriptors.iter().try_for_each(check).map_err(refused)
}
