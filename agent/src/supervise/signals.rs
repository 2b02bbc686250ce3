//! Signals as values to wait for.

use std::io;
use std::os::fd::AsFd as _;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal as Raised};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use tokio::time::Instant;

/// What the supervisor waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Children have ended, one or more.
    Child,
    /// Somebody asks for the end.
    Stop(Signal),
}

/// The signals that are waited for. They stay blocked for as long as the process lives; the first
/// process of a container gets those alone that it blocks or handles.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

/// Lets the calling thread receive what a supervisor has blocked.
pub(super) fn unblock() -> io::Result<()> {
    Ok(blocked().thread_unblock()?)
}

fn blocked() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Raised::SIGCHLD, Raised::SIGTERM, Raised::SIGINT] {
        set.add(signal);
    }
    set
}

impl Signals {
    /// Takes over SIGCHLD, SIGTERM and SIGINT, the first one for orphans too. To be called while the process has one thread.
    ///
    /// A worker inherits what is blocked, so that no signal can end it before it handles them: it
    /// must [`unblock`] them then.
    pub(super) fn take_over() -> io::Result<Self> {
        let set = blocked();
        set.thread_block()?;
        // Where this is not the first process of its container.
        set_child_subreaper(true)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }

    /// Waits for the next event.
    pub(super) fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.take()? {
                return Ok(event);
            }
            self.wait(None)?;
        }
    }

    /// Waits for the next event until `deadline`.
    pub(super) fn next_before(&mut self, deadline: Instant) -> io::Result<Option<Event>> {
        loop {
            if let Some(event) = self.take()? {
                return Ok(Some(event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            self.wait(Some(&left))?;
        }
    }

    fn wait(&self, limit: Option<&Timespec>) -> io::Result<()> {
        let mut descriptors = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        match poll(&mut descriptors, limit) {
            // Stopped and continued, for example.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self) -> io::Result<Option<Event>> {
        let signal = self.0.read_signal()?.map(|taken| taken.ssi_signo);
        Ok(signal.map(|number| match number {
            number if number == Raised::SIGTERM as u32 => Event::Stop(Signal::TERM),
            number if number == Raised::SIGINT as u32 => Event::Stop(Signal::INT),
            _ => Event::Child,
        }))
    }
}
