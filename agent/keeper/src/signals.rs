//! The end that the kubelet asks for, as something to wait for.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Takes SIGTERM and SIGINT over: from now on they make this descriptor readable, and nothing else.
/// To be called while the process has one thread.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn taken_over() -> io::Result<OwnedFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    let taken = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?;
    taken.as_fd().try_clone_to_owned()
}
