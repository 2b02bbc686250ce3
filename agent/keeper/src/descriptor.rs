//! Tells what may be held from whatever else might be handed over.

use std::fmt;
use std::os::fd::AsFd;

use rustix::fs::{FileType, SealFlags, fcntl_get_seals, fstat};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// The largest snapshot that is held, in bytes: some thousand identities and Pods.
pub const MAX_SNAPSHOT_BYTES: u64 = 32 * 1024 * 1024;

/// A descriptor that is not what it was said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit(&'static str);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Unfit {}

/// Checks that `descriptor` is a listening TCP socket.
///
/// # Errors
/// [`Unfit`] says what it is not.
pub fn check_listener(descriptor: impl AsFd) -> Result<(), Unfit> {
    let socket = descriptor.as_fd();
    let family = socket_domain(socket);
    if !matches!(family, Ok(AddressFamily::INET | AddressFamily::INET6))
        || socket_type(socket) != Ok(SocketType::STREAM)
    {
        return Err(Unfit("it is no TCP socket"));
    }
    if socket_acceptconn(socket) != Ok(true) {
        return Err(Unfit("it does not listen"));
    }
    Ok(())
}

/// Checks that `descriptor` is a local socket for whole packets.
///
/// # Errors
/// [`Unfit`] says what it is not.
pub(crate) fn check_slot(descriptor: impl AsFd) -> Result<(), Unfit> {
    let socket = descriptor.as_fd();
    if socket_domain(socket) != Ok(AddressFamily::UNIX)
        || socket_type(socket) != Ok(SocketType::SEQPACKET)
    {
        return Err(Unfit("it is no local socket for packets"));
    }
    Ok(())
}

/// Checks that `descriptor` is memory that nobody can change any more, and not too much of it.
///
/// # Errors
/// [`Unfit`] says what it is not.
pub fn check_snapshot(descriptor: impl AsFd) -> Result<(), Unfit> {
    let sealed = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    // Only memory files have seals at all.
    if !fcntl_get_seals(&descriptor).is_ok_and(|seals| seals.contains(sealed)) {
        return Err(Unfit("it is no sealed memory"));
    }
    let Ok(found) = fstat(&descriptor) else {
        return Err(Unfit("it cannot be looked at"));
    };
    let size = u64::try_from(found.st_size).unwrap_or(u64::MAX);
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || size > MAX_SNAPSHOT_BYTES
    {
        return Err(Unfit("it is too large"));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    use super::*;

    /// Memory with `text`, sealed or not.
    pub(crate) fn memory(text: &[u8], sealed: bool) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = std::fs::File::from(memfd_create("test", flags).unwrap());
        file.write_all(text).unwrap();
        if sealed {
            let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
            fcntl_add_seals(&file, seals).unwrap();
        }
        file.into()
    }

    #[test]
    fn only_a_tcp_listener_is_a_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(check_listener(&listener), Ok(()));
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(directory.path().join("s")).unwrap();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        assert!(check_listener(&stream).is_err());
        assert!(check_listener(&datagrams).is_err());
        assert!(check_listener(&unix).is_err());
        assert!(check_listener(&file).is_err());
    }

    #[test]
    fn only_sealed_memory_is_a_snapshot() {
        assert_eq!(check_snapshot(memory(b"text", true)), Ok(()));
        assert!(check_snapshot(memory(b"text", false)).is_err());
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        assert!(check_snapshot(&file).is_err());
        let large = memory(b"", false);
        rustix::fs::ftruncate(&large, MAX_SNAPSHOT_BYTES + 1).unwrap();
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        fcntl_add_seals(&large, seals).unwrap();
        assert!(check_snapshot(&large).is_err());
    }
}
