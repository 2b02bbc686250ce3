//! The end that the kubelet asks for, as something to wait for.

#![expect(
    unsafe_code,
    reason = "signals as descriptors have no safe form without a runtime"
)]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// Takes SIGTERM and SIGINT over: from now on they make this descriptor readable, and nothing else.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn taken_over() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised before it is used, and lives through the calls; the descriptor
    // is a new one that nobody else knows.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}
