//! The one loop: waits for peers, and gives each its turn.

mod conversation;
mod place;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use shared::socket::Published;

use crate::peer::{Kind, Peer};
use crate::signals;
use crate::store::Store;
use crate::succession::Succession;

/// Everybody who may reach the socket is ours: two agents and two keepers, with some room.
const MAX_PEERS: usize = 16;
/// How long a connection may take to say who it is.
const GREETING: Duration = Duration::from_secs(2);
/// How often it is looked whether the published path still leads here.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// When there is nothing to do. A send that found too many descriptors under way is tried again.
const IDLE: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(20);
/// What may wait to be sent to one peer beside every listener a few times over.
const ROOM: usize = 64;

/// How to keep.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the socket is published.
    pub socket: PathBuf,
    /// This Pod's uid; the agent of the same Pod says the same.
    pub instance: String,
    /// The most listeners that are held.
    pub max_listeners: usize,
}

/// Why a keeper cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The signals cannot be waited for.
    #[error("failed to take over the signals: {0}")]
    Signals(#[source] io::Error),
    /// The socket cannot be published.
    #[error(
        "failed to publish `{path}`: {source}; `caios-agent prepare` makes its directory, and this \
         must run as the agent's user or group", path = .path.display()
    )]
    Publish {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nothing can be waited for.
    #[error("failed to wait for the connections: {0}")]
    Poll(#[source] io::Error),
}

/// Keeps until SIGTERM or SIGINT, and then until nothing is lost by ending: see
/// [`Arguments`](crate::Arguments). `say` gets one line for each thing that a person may want to know.
///
/// # Errors
/// [`Problem`], when it cannot go on. What was held is lost then.
pub fn run_until_asked(settings: Settings, say: &dyn Fn(&str)) -> Result<(), Problem> {
    let asked = signals::taken_over().map_err(Problem::Signals)?;
    run(settings, asked, say)
}

/// As [`run_until_asked`], asked to end by `asked` becoming readable.
///
/// # Errors
/// As there.
pub fn run(settings: Settings, asked: OwnedFd, say: &dyn Fn(&str)) -> Result<(), Problem> {
    let now = now();
    let keeper = Keeper {
        store: Store::new(settings.max_listeners),
        settings,
        peers: Vec::new(),
        listener: None,
        succession: Succession::new(now),
        predecessors: Vec::new(),
        asked,
        ending: false,
        left: false,
        next_look: now,
        say,
    };
    keeper.run()
}

struct Keeper<'a> {
    settings: Settings,
    store: Store,
    peers: Vec<Peer>,
    listener: Option<(OwnedFd, Published)>,
    succession: Succession,
    /// The Pods whose keepers have handed over.
    predecessors: Vec<String>,
    asked: OwnedFd,
    /// Asked to end.
    ending: bool,
    /// The agent of this Pod has ended and waits for no successor.
    left: bool,
    next_look: Instant,
    say: &'a dyn Fn(&str),
}

#[expect(
    clippy::disallowed_methods,
    reason = "no runtime here, and so no time of its own"
)]
fn now() -> Instant {
    Instant::now()
}

impl Keeper<'_> {
    fn run(mut self) -> Result<(), Problem> {
        loop {
            self.tick()?;
            self.flush()?;
            if self.may_end() {
                return Ok(());
            }
            self.wait()?;
        }
    }

    /// Does what is due by time.
    fn tick(&mut self) -> Result<(), Problem> {
        let now = now();
        self.drop_peers(|peer| matches!(peer.kind, Kind::Stranger(until) if until <= now));
        match self.succession {
            Succession::Looking(at) if at <= now => self.look_for_predecessor(now)?,
            Succession::Taking(until) if until <= now => {
                (self.say)("the keeper before this one does not hand over; going on without");
                self.drop_peers(|peer| peer.kind == Kind::Predecessor);
                self.publish()?;
            }
            Succession::Published if self.next_look <= now => {
                self.next_look = now + LOOK_INTERVAL;
                self.look_at_path()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether nothing is lost by ending: asked to, no agent is here, and what is held is either
    /// nothing, or with a successor, or nobody waits for one.
    fn may_end(&self) -> bool {
        let kinds = |kind| self.peers.iter().any(|peer| peer.kind == kind);
        let handed_over = || {
            let mut peers = self.peers.iter();
            peers.any(|peer| peer.kind == Kind::Successor && peer.queued() == 0)
        };
        self.ending && !kinds(Kind::Agent) && (self.left || self.store.is_empty() || handed_over())
    }

    fn wait(&mut self) -> Result<(), Problem> {
        let now = now();
        let blocked = self.peers.iter().any(|peer| peer.queued() > 0);
        let strangers = self.peers.iter().filter_map(|peer| match peer.kind {
            Kind::Stranger(until) => Some(until),
            _ => None,
        });
        let idle = now + if blocked { RETRY } else { IDLE };
        let due = strangers
            .chain(self.succession.due())
            .fold(idle, Instant::min);
        let timeout = Timespec::try_from(due.saturating_duration_since(now)).unwrap_or_default();
        let mut waiting: Vec<_> = self
            .peers
            .iter()
            .map(|peer| PollFd::from_borrowed_fd(peer.socket(), PollFlags::IN))
            .collect();
        // Nobody new while there are too many: they wait in the backlog.
        let listener = self.listener.as_ref();
        let listener = listener.filter(|_| self.peers.len() < MAX_PEERS);
        waiting.extend(listener.map(|(socket, _)| PollFd::new(socket, PollFlags::IN)));
        let newcomers = listener.is_some();
        // Asked once is enough.
        if !self.ending {
            waiting.push(PollFd::new(&self.asked, PollFlags::IN));
        }
        match poll(&mut waiting, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Problem::Poll(errno.into())),
        }
        let mut ready = waiting.iter().map(|one| !one.revents().is_empty());
        let readable: Vec<bool> = ready.by_ref().take(self.peers.len()).collect();
        let is_called = newcomers && ready.next() == Some(true);
        if ready.next() == Some(true) {
            self.ending = true;
            (self.say)("asked to end: waiting for the agent, and for who takes this Pod's place");
        }
        let mut gone = Vec::new();
        for (at, _) in readable.iter().enumerate().filter(|(_, ready)| **ready) {
            if let Err(reason) = self.listen_to(at)? {
                gone.push((at, reason));
            }
        }
        for (at, reason) in gone.into_iter().rev() {
            self.part_from(at, &reason)?;
        }
        if is_called {
            self.accept();
        }
        Ok(())
    }

    fn accept(&mut self) {
        let Some((listener, _)) = &self.listener else {
            return;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // What fails here is gone, or a lack of descriptors, which the next turn meets again.
        if let Ok(socket) = accept_with(listener, flags) {
            let until = now() + GREETING;
            self.peers.push(Peer::new(socket, Kind::Stranger(until)));
        }
    }

    fn flush(&mut self) -> Result<(), Problem> {
        let most = 4 * self.settings.max_listeners + ROOM;
        // From behind: those that are gone are taken out.
        for at in (0..self.peers.len()).rev() {
            let Some(peer) = self.peers.get_mut(at) else {
                continue;
            };
            // One that does not read is hung up on; it comes again and is told everything.
            if peer.flush(&self.store).is_err() || peer.queued() > most {
                self.part_from(at, "it does not read")?;
            } else if peer.dismissed && peer.queued() == 0 {
                self.peers.remove(at);
            }
        }
        Ok(())
    }

    fn drop_peers(&mut self, which: impl Fn(&Peer) -> bool) {
        self.peers.retain(|peer| !which(peer));
    }

    /// A peer has gone, or is sent away.
    fn part_from(&mut self, at: usize, reason: &str) -> Result<(), Problem> {
        let peer = self.peers.remove(at);
        match peer.kind {
            Kind::Agent => {
                (self.say)(&format!(
                    "the agent is gone ({reason}); holding {} listeners for the next one",
                    self.store.len()
                ));
                self.tell_predecessor();
            }
            Kind::Successor => {
                let instance = &peer.instance;
                (self.say)(&format!(
                    "the next keeper, of Pod {instance}, is gone: {reason}"
                ));
                self.tell_agents();
            }
            Kind::Predecessor => {
                if let Succession::Taking(_) = self.succession {
                    (self.say)(&format!(
                        "the keeper before did not hand over all: {reason}"
                    ));
                    self.publish()?;
                }
            }
            Kind::Stranger(_) => {}
        }
        self.forget_older();
        Ok(())
    }
}
