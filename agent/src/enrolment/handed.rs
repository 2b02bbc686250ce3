//! Descriptors as they come from a Pod. Everything here may block.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, Shutdown, recvmsg, shutdown,
    sockopt,
};

/// The most descriptors that Linux lets one message carry (`SCM_MAX_FD`).
const MAX_IN_MESSAGE: usize = 253;

/// The descriptors of one message. Those that are left are closed without linger.
///
/// All are received, however few are wanted: what does not fit is closed by the kernel, and a
/// socket with linger then holds the thread for as long as its sender has set.
pub(super) struct Handed {
    pub(super) descriptors: Vec<OwnedFd>,
    /// Some were lost, because this process may not open more.
    pub(super) cut: bool,
}

impl Handed {
    /// Takes the next message of `connection` and leaves its data alone: that has been read.
    pub(super) fn receive(connection: &OwnedFd) -> Result<Self, Errno> {
        Ok(receive(connection)?.0)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.descriptors.drain(..).for_each(close);
    }
}

fn receive(connection: &OwnedFd) -> Result<(Handed, usize), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_IN_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [0u8; 1];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut data = [IoSliceMut::new(&mut data)];
    let received = recvmsg(connection, &mut data, &mut control, flags)?;
    let mut handed = Handed {
        descriptors: Vec::new(),
        cut: received.flags.contains(ReturnFlags::CTRUNC),
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            handed.descriptors.extend(descriptors);
        }
    }
    Ok((handed, received.bytes))
}

/// Throws away whatever waits on `connection`. Its peer can still read what was sent to it, but
/// not send more.
pub(super) fn discard(connection: &OwnedFd) {
    if shutdown(connection, Shutdown::Read).is_err() {
        return;
    }
    // Nothing more comes, so this ends: with an error or an end of file, when all is read.
    while receive(connection).is_ok_and(|(_, bytes)| bytes > 0) {}
}

/// Closes a descriptor from a Pod. May block: the blocking pool only.
pub(super) fn close(handed: OwnedFd) {
    // Fails on what is no socket, and then there is no linger.
    let _ = sockopt::set_socket_linger(&handed, None);
    drop(handed);
}
