//! Tells what a descriptor is, with as few questions as possible: there are thousands.

use std::fs;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use rustix::net::{RecvFlags, ipproto, recv, sockopt};

use super::estate::{Place, Seen};
use crate::enrolment::{local_address, netns_cookie};

/// How the requests begin that are answered. What is unread may also be the rest of a request that the worker
/// has begun to read: nobody could make sense of it.
const BEGINNINGS: [&[u8; 4]; 2] = [b"GET ", b"HEAD"];

/// The numbers that descriptors of this process may have.
pub(super) fn numbers() -> Range<RawFd> {
    // The size of the table: to list `/proc/self/fd` takes some times as long.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    0..table_size(&status).unwrap_or_default()
}

fn table_size(status: &str) -> Option<RawFd> {
    let mut lines = status.lines();
    let size = lines.find_map(|line| line.strip_prefix("FDSize:"))?;
    size.trim().parse().ok()
}

/// What the descriptor with this number is, which nobody may close meanwhile; `None` for what is
/// neither a listener nor a connection with an unread request, and where the kernel cannot tell
/// networks apart (before 5.14).
pub(super) fn at(number: RawFd) -> Option<Seen> {
    let is_listening = is_listening(number)?;
    // SAFETY: it is a socket, so it is open, and stays open.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    let is_unread = !is_listening && has_unread_request(socket) && is_tcp(socket);
    if !is_listening && !is_unread {
        return None;
    }
    let place = Place {
        address: local_address(socket)?,
        network: netns_cookie(socket)?,
    };
    Some(if is_listening {
        Seen::Listener(place)
    } else {
        Seen::Unread(place)
    })
}

/// Whether a socket listens; `None` for what is no socket.
fn is_listening(number: RawFd) -> Option<bool> {
    let mut value: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&value)).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `value`, and both live through the call. It
    // may be asked of any number.
    let result = unsafe {
        libc::getsockopt(
            number,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(value != 0)
}

fn is_tcp(socket: BorrowedFd<'_>) -> bool {
    sockopt::socket_protocol(socket) == Ok(Some(ipproto::TCP))
}

/// Whether a request, or what has come of it, waits to be read.
fn has_unread_request(connection: impl AsFd) -> bool {
    let mut beginning = [0; 4];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let Ok((_, length)) = recv(connection, &mut beginning, flags) else {
        return false;
    };
    let unread = beginning.get(..length).unwrap_or_default();
    !unread.is_empty() && BEGINNINGS.iter().any(|whole| whole.starts_with(unread))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    /// A client that has sent `bytes`, and the connection to it.
    fn asked(listener: &TcpListener, bytes: &[u8]) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(bytes).unwrap();
        let (server, _) = listener.accept().unwrap();
        // It has come; where none is to come, the connection has been made.
        let mut nowhere = [0; 1];
        if !bytes.is_empty() {
            server.peek(&mut nowhere).unwrap();
        }
        (client, server)
    }

    #[test]
    fn a_connection_is_handed_on_while_the_beginning_of_a_request_is_unread() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let Some(Seen::Listener(place)) = at(listener.as_raw_fd()) else {
            panic!("a listener is one");
        };
        assert_eq!(place.address, listener.local_addr().unwrap());
        for (bytes, is_request) in [
            (&b""[..], false),
            (b"GE", true),
            (b"GET /v1/credentials HTTP/1.1\r\n\r\n", true),
            (b"HEAD / HTTP/1.1\r\n\r\n", true),
            (b"Authorization: rest of a head", false),
        ] {
            let (_client, server) = asked(&listener, bytes);
            let wanted = is_request.then_some(Seen::Unread(place));
            assert_eq!(at(server.as_raw_fd()), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn a_request_that_was_read_is_lost_and_another_one_after_it_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut client, mut server) = asked(&listener, b"GET /");
        server.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(at(server.as_raw_fd()), None);
        client.write_all(b"GET /").unwrap();
        server.peek(&mut [0; 1]).unwrap();
        assert!(matches!(at(server.as_raw_fd()), Some(Seen::Unread(_))));
    }

    #[test]
    fn a_client_that_has_hung_up_has_no_request() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, server) = asked(&listener, b"");
        drop(client);
        assert_eq!(server.peek(&mut [0; 1]).unwrap(), 0, "its end has come");
        assert_eq!(at(server.as_raw_fd()), None);
    }

    #[test]
    fn what_is_no_tcp_socket_is_nothing() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"GET /").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = File::open("/proc/self/status").unwrap();
        for other in [
            server.as_fd(),
            listener.as_fd(),
            datagrams.as_fd(),
            file.as_fd(),
        ] {
            assert_eq!(at(other.as_raw_fd()), None, "{other:?}");
        }
    }

    #[test]
    fn every_descriptor_has_one_of_the_numbers() {
        let sockets: Vec<_> = (0..200).map(|_| UnixStream::pair().unwrap()).collect();
        let numbers = numbers();
        for (one, other) in &sockets {
            assert!(numbers.contains(&one.as_raw_fd()), "{one:?}: {numbers:?}");
            assert!(
                numbers.contains(&other.as_raw_fd()),
                "{other:?}: {numbers:?}"
            );
        }
        let status = "Name:\tone\nFDSize:\t256\nGroups:\t\n";
        assert_eq!(table_size(status), Some(256));
        assert_eq!(table_size("Name:\tone\n"), None);
        // One that nothing has.
        assert_eq!(at(RawFd::MAX), None);
    }
}
