//! Packets with descriptors beside them, over a socket that does not block.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, recvmsg, sendmsg,
};
use shared::socket;

use crate::protocol::{MAX_DESCRIPTORS, MAX_PACKET_BYTES};

/// A packet as it came.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes; empty when the other side has hung up.
    pub bytes: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// Connects to the keeper at `path`. Local, and so done at once.
///
/// # Errors
/// [`NotFound`](io::ErrorKind::NotFound) and [`ConnectionRefused`](io::ErrorKind::ConnectionRefused)
/// where no keeper is, [`WouldBlock`](io::ErrorKind::WouldBlock) where its backlog is full.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    socket::connect(path, SocketType::SEQPACKET)
}

/// Sends one packet, or nothing.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is no room now, also when the kernel has
/// too many descriptors under way; anything else when the other side is gone.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::MSGSIZE.into());
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
        Ok(_) => Ok(()),
        // Too many descriptors wait to be received, of all processes of this user (unix(7)).
        Err(Errno::TOOMANYREFS | Errno::NOBUFS) => Err(io::ErrorKind::WouldBlock.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Receives one packet with its descriptors, also of another side that has ended since.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is none; `EMSGSIZE` for one that is longer
/// than any message, and `EMFILE` when descriptors were lost because the process may not have more.
pub fn receive(socket: impl AsFd) -> io::Result<Packet> {
    receive_up_to(socket, MAX_PACKET_BYTES)
}

/// As [`receive`], for a protocol whose packets have at most `most` bytes.
///
/// # Errors
/// As [`receive`].
pub fn receive_up_to(socket: impl AsFd, most: usize) -> io::Result<Packet> {
    // One byte more than allowed tells a packet that is too long.
    let mut bytes = vec![0; most + 1];
    // And one descriptor more, so that a lack of room means a lack of descriptors.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS + 1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut receive = || {
        recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            flags,
        )
    };
    let received = match receive() {
        // Said once, and before all that the other side has sent, where it had something unread when it ended.
        Err(Errno::CONNRESET) => receive(),
        other => other,
    }?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(handed) = message {
            descriptors.extend(handed);
        }
    }
    if received.bytes > most || descriptors.len() > MAX_DESCRIPTORS {
        return Err(Errno::MSGSIZE.into());
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    bytes.truncate(received.bytes);
    Ok(Packet { bytes, descriptors })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::{AddressFamily, SocketFlags, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn a_packet_arrives_with_its_descriptors_and_the_end_is_empty() {
        let (here, there) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        send(&here, b"one", &[listener.as_fd()]).unwrap();
        send(&here, b"two", &[]).unwrap();
        drop(here);
        let first = receive(&there).unwrap();
        assert_eq!(
            (first.bytes.as_slice(), first.descriptors.len()),
            (&b"one"[..], 1)
        );
        let address = rustix::net::getsockname(&first.descriptors[0]).unwrap();
        let address = std::net::SocketAddr::try_from(address).unwrap();
        assert_eq!(address, listener.local_addr().unwrap());
        assert_eq!(receive(&there).unwrap().bytes, b"two");
        assert!(receive(&there).unwrap().bytes.is_empty());
    }

    #[test]
    fn what_one_said_that_ended_with_something_unread_arrives() {
        let (here, there) = pair();
        send(&here, b"one", &[]).unwrap();
        send(&there, b"unread", &[]).unwrap();
        drop(here);
        assert_eq!(receive(&there).unwrap().bytes, b"one");
        assert!(receive(&there).unwrap().bytes.is_empty());
    }

    #[test]
    fn too_much_is_refused_and_nothing_of_it_is_kept() {
        let (here, there) = pair();
        let flags = SendFlags::empty();
        rustix::net::send(&here, &[b'x'; MAX_PACKET_BYTES + 1], flags).unwrap();
        let error = receive(&there).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::MSGSIZE.raw_os_error()));
        assert_eq!(
            receive(&there).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }

    #[test]
    fn a_full_buffer_is_no_failure() {
        let (here, there) = pair();
        let sent = (0..100_000).find_map(|_| send(&here, &[b'x'; 1000], &[]).err());
        assert_eq!(sent.unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(there);
        let error = send(&here, b"x", &[]).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
