//! What is left of a worker that has crashed: a process that shares its descriptors.
//!
//! The kernel closes descriptors when the last process that has them ends. So before it starts anything
//! else the worker starts another process, its heir, with which it shares its table of descriptors, and
//! not its memory: no secret is there yet. The heir sleeps for as long as the worker lives. When
//! that is killed, nothing is closed yet, and the heir puts each connection with an unread request into
//! the [slots](crate::unanswered), from which the next worker takes it. It does so wherever the
//! worker was: between two system calls, waiting for memory, or stopped. Then it ends, and the kernel closes
//! the rest; the supervisor starts the next worker after that.
//!
//! A connection without an unread request is not handed on. Its request may have been read, as all but the
//! first of a connection are, and was lost with the worker's memory: the client must see an end at once.

#![expect(
    unsafe_code,
    reason = "processes that share descriptors, and descriptors by their number"
)]

mod estate;
mod look;

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::sync::Arc;

use nix::sched::{CloneFlags, clone};
use nix::sys::prctl::set_name;
use nix::sys::signal::{SigSet, Signal as Raised};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::process::{getpid, kill_process, pidfd_open, waitpid};

use crate::unanswered::{Origin, Unanswered, put};

/// What the process is called, which has the worker's command line.
pub const NAME: &str = "caios-heir";

/// What its functions need, many times over.
const STACK_BYTES: usize = 256 * 1024;

/// A worker's heir, while the worker lives.
#[derive(Debug)]
#[must_use]
pub struct Heir(Pid);

/// Starts the heir of this process, which puts connections into `slots`. To be called while the process
/// has one thread.
///
/// # Errors
/// When the kernel is too old (before 5.3), or refuses.
pub fn leave(slots: &Arc<Unanswered>) -> io::Result<Heir> {
    let worker = pidfd_open(getpid(), PidfdFlags::empty())?;
    let (number, near_ends) = (worker.as_raw_fd(), slots.near_ends());
    let life = Box::new(|| {
        inherit(number, &near_ends);
        // The process ends with this, without a destructor.
        0
    });
    let mut stack = vec![0; STACK_BYTES];
    // SAFETY: the process has one thread, so that no lock of the allocator is held by another one in the
    // copy of the memory that the heir gets. The stack is in that copy too, and large enough.
    let heir = unsafe {
        clone(
            life,
            &mut stack,
            CloneFlags::CLONE_FILES,
            Some(Raised::SIGCHLD as i32),
        )
    }?;
    // The heir knows them by their numbers, which must never be those of something else.
    std::mem::forget((worker, Arc::clone(slots)));
    let heir = Pid::from_raw(heir.as_raw());
    heir.map(Heir)
        .ok_or_else(|| io::Error::other("the heir has no process id"))
}

impl Heir {
    /// Ends it: the worker ends in order, and leaves nothing.
    pub fn dismiss(self) {
        let Self(id) = self;
        // It is not reaped, so its id is still its own.
        let _ = kill_process(id, Signal::KILL);
        while let Err(Errno::INTR) = waitpid(Some(id), WaitOptions::empty()) {}
    }
}

/// The life of the heir. Before the worker's end it must open and close nothing: the table is shared.
fn inherit(worker: RawFd, near_ends: &[RawFd]) {
    // What ends the worker is for the worker, which may have to drain first.
    let _ = SigSet::all().thread_block();
    if let Ok(name) = std::ffi::CString::new(NAME) {
        let _ = set_name(&name);
    }
    if until_end(worker).is_ok() {
        hand_on(near_ends);
    }
}

/// Waits until all threads of the process of this descriptor have ended.
fn until_end(worker: RawFd) -> Result<(), Errno> {
    // SAFETY: the worker never closes it.
    let worker = unsafe { BorrowedFd::borrow_raw(worker) };
    loop {
        let mut waited = [PollFd::from_borrowed_fd(worker, PollFlags::IN)];
        match poll(&mut waited, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Puts all connections with an unread request into the slots with these near ends, in turn, until
/// all slots are full.
fn hand_on(near_ends: &[RawFd]) {
    let seen = look::numbers().filter_map(|number| Some((number, look::at(number)?)));
    let mut open: Vec<_> = near_ends.iter().copied().map(borrowed).collect();
    for (turn, (connection, listener)) in estate::unread(seen).into_iter().enumerate() {
        let connection = borrowed(connection);
        let Ok(origin) = Origin::of(borrowed(listener)) else {
            continue;
        };
        // Those that are full take no part any more.
        while !open.is_empty() {
            let at = turn % open.len();
            if open
                .get(at)
                .is_some_and(|near| put(near, connection, origin).is_ok())
            {
                break;
            }
            open.swap_remove(at);
        }
    }
}

/// A descriptor of a worker that has ended.
const fn borrowed(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: it was open when the worker ended, or has been looked at since. Nobody is left who could
    // close it: the heir does not.
    unsafe { BorrowedFd::borrow_raw(number) }
}
