//! A client's connection, and the one to the agent that answers it.

use rustix::event::PollFlags;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::net::{RecvFlags, Shutdown};

use super::pipe::Pipe;

/// A request is held this long while there is no agent: longer than one takes to restart, and than
/// a client waits for an answer.
const HOLD_S: i64 = 10;
/// A connection without a byte for so long ends. The agent itself ends it earlier.
const IDLE_S: i64 = 90;
/// From here on a connection between two requests may have to make room for another one.
const SPARE_S: i64 = 5;
/// For a client that has got its whole answer and goes on sending.
const LINGER_S: i64 = 2;

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Done,
}

/// What the poll found on both sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) client: PollFlags,
    pub(super) agent: PollFlags,
}

/// A client's connection. The agent is dialled when there is something to send, and dialled again,
/// with the same bytes, when it goes before it has answered: requests only read.
#[derive(Debug)]
pub(super) struct Connection {
    client: OwnedFd,
    agent: Option<OwnedFd>,
    up: Pipe,
    down: Pipe,
    /// The client's end has been passed on.
    up_shut: bool,
    /// When the agent was last reached, in seconds since boot.
    dialled_s: Option<i64>,
    /// Since when there is no agent for what was asked.
    lost_s: Option<i64>,
    /// Since when the client has its whole answer.
    answered_s: Option<i64>,
    /// When the last byte came.
    active_s: i64,
}

impl Connection {
    pub(super) fn new(client: OwnedFd, now_s: i64) -> Self {
        Self {
            client,
            agent: None,
            up: Pipe::default(),
            down: Pipe::default(),
            up_shut: false,
            dialled_s: None,
            lost_s: None,
            answered_s: None,
            active_s: now_s,
        }
    }

    /// The client's side, and what to wait for there.
    pub(super) fn client(&self, up: &[u8]) -> (BorrowedFd<'_>, PollFlags) {
        let mut wanted = PollFlags::empty();
        let reads = self.up.has_room(up) || self.answered_s.is_some();
        wanted.set(PollFlags::IN, reads);
        wanted.set(PollFlags::OUT, self.down.is_behind());
        (self.client.as_fd(), wanted)
    }

    /// The agent's side, where there is one, and what to wait for there: nothing as long as there
    /// is no room for its answer.
    pub(super) fn agent(&self, down: &[u8]) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let mut wanted = PollFlags::empty();
        if self.down.has_room(down) {
            wanted.set(PollFlags::IN, true);
            wanted.set(PollFlags::OUT, self.up.is_behind());
        }
        Some((self.agent.as_ref()?.as_fd(), wanted))
    }

    /// Whether a request waits for an agent.
    pub(super) fn is_waiting(&self) -> bool {
        self.agent.is_none() && self.is_asking() && !self.down.ended
    }

    /// Whether something was asked that is not answered.
    fn is_asking(&self) -> bool {
        !self.up.is_empty() && self.answered_s.is_none()
    }

    /// Whether nothing is asked, sent or answered.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_asking() && !self.down.is_behind()
    }

    /// Whether it may be ended for the sake of another one: a client opens a new one when its
    /// kept-alive connection is gone, and one that has ended its side has most likely gone itself.
    pub(super) fn is_spare(&self, now_s: i64) -> bool {
        self.up.ended || self.is_quiet() && now_s - self.active_s >= SPARE_S
    }

    /// Carries what there is to carry, through two halves of `memory`.
    pub(super) fn carry(
        &mut self,
        (up, down): (&mut [u8], &mut [u8]),
        ready: Ready,
        dial: impl FnOnce() -> Option<OwnedFd>,
        now_s: i64,
    ) -> Fate {
        if let Some(answered_s) = self.answered_s {
            return self.linger(up, answered_s, now_s);
        }
        if ready.client.intersects(PollFlags::ERR | PollFlags::HUP) {
            return Fate::Done;
        }
        if ready.client.contains(PollFlags::IN) {
            match self.up.fill(self.client.as_fd(), up) {
                Ok(0) => {}
                Ok(_) => self.active_s = now_s,
                Err(_gone) => return Fate::Done,
            }
        }
        // An agent that takes a connection and ends it without an answer may do so again and again:
        // it is reached once a second at most.
        if self.is_waiting() && self.dialled_s != Some(now_s) {
            self.agent = dial();
            self.dialled_s = self.agent.as_ref().map(|_| now_s).or(self.dialled_s);
            self.up_shut = false;
        }
        if self.agent.is_some() {
            self.exchange(up, down, ready.agent, now_s);
        }
        if self.is_waiting() {
            let lost_s = *self.lost_s.get_or_insert(now_s);
            if now_s - lost_s >= HOLD_S {
                return Fate::Done;
            }
        }
        if self.down.drain(self.client.as_fd(), down).is_err() {
            return Fate::Done;
        }
        if !self.down.is_behind() {
            self.down.forget(down);
        }
        if self.down.ended && !self.down.is_behind() {
            self.answered_s = Some(now_s);
            let _ = rustix::net::shutdown(&self.client, Shutdown::Write);
            return self.linger(up, now_s, now_s);
        }
        let left = self.up.ended && self.up.is_empty() && self.agent.is_none();
        if left || now_s - self.active_s >= IDLE_S {
            return Fate::Done;
        }
        Fate::Open
    }

    /// Carries between agent and memory. An agent that goes leaves `agent` empty.
    fn exchange(&mut self, up: &mut [u8], down: &mut [u8], ready: PollFlags, now_s: i64) {
        let Some(agent) = &self.agent else { return };
        let mut gone = false;
        if !ready.is_empty() {
            match self.down.fill(agent.as_fd(), down) {
                Ok(0) => {}
                Ok(_) => {
                    self.active_s = now_s;
                    self.lost_s = None;
                    self.up.forget(up);
                }
                Err(_) => gone = true,
            }
        }
        gone |= self.down.ended;
        if !gone {
            gone = self.up.drain(agent.as_fd(), up).is_err();
        }
        if gone {
            self.agent = None;
            let unanswered = self.is_asking() && self.down.is_empty();
            // What cannot be asked again ends as the agent has ended it.
            self.down.ended = !(unanswered && self.up.rewind());
        } else if self.up.ended && self.up.is_empty() && !self.up_shut {
            // Not before: an agent takes the end of a client that waits for one that has gone.
            self.up_shut = rustix::net::shutdown(agent, Shutdown::Write).is_ok();
        }
    }

    /// Reads on until the client ends too: closing a socket with unread bytes would take the
    /// answer back that is still on its way.
    fn linger(&self, waste: &mut [u8], answered_s: i64, now_s: i64) -> Fate {
        let read = rustix::net::recv(&self.client, waste, RecvFlags::empty());
        match read {
            Ok((0, _)) => Fate::Done,
            Err(errno) if errno != rustix::io::Errno::AGAIN => Fate::Done,
            _ if now_s - answered_s >= LINGER_S => Fate::Done,
            _ => Fate::Open,
        }
    }
}
