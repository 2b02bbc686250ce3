//! The socket options and the one ioctl that rustix has not.

#![expect(unsafe_code, reason = "getsockopt and ioctl with buffers of ours")]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, socklen_t};

/// Reads a socket option into `value`; returns how much the kernel says there is.
fn get(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: &mut [u8]) -> io::Result<usize> {
    let mut length = socklen_t::try_from(value.len()).unwrap_or(socklen_t::MAX);
    let pointer = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: `pointer` has `length` writable bytes, and both live through the call.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, pointer, &raw mut length) };
    if result == 0 {
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Keeps connections to a listener in the kernel until their client has sent something, for `seconds`
/// at most (tcp(7), `TCP_DEFER_ACCEPT`). What was not accepted outlives the process that would have.
pub(in crate::enrolment) fn defer_accept(socket: BorrowedFd<'_>, seconds: c_int) -> io::Result<()> {
    let length = socklen_t::try_from(size_of::<c_int>()).unwrap_or_default();
    // SAFETY: the kernel reads `length` bytes of `seconds`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether a classic or eBPF filter is attached. With no room for it, the kernel answers with the
/// number of instructions (socket(7), `SO_GET_FILTER`), or fails for an eBPF program.
pub(super) fn has_filter(socket: BorrowedFd<'_>) -> Result<bool, io::ErrorKind> {
    match get(socket, libc::SOL_SOCKET, libc::SO_GET_FILTER, &mut []) {
        Ok(length) => Ok(length != 0),
        Err(error) => Err(error.kind()),
    }
}

/// Whether an upper layer protocol, as kernel TLS, is attached to a TCP socket.
pub(super) fn has_upper_layer(socket: BorrowedFd<'_>) -> Result<bool, io::ErrorKind> {
    let mut name = [0; 16];
    match get(socket, libc::IPPROTO_TCP, libc::TCP_ULP, &mut name) {
        Ok(length) => Ok(length != 0 && name != [0; 16]),
        Err(error) => Err(error.kind()),
    }
}

/// The cookie of the socket's network namespace; `None` on kernels before 5.14.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut cookie = [0; 8];
    get(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut cookie)
        .ok()
        .filter(|length| *length == cookie.len())
        .map(|_| u64::from_ne_bytes(cookie))
}

/// `struct ifreq`: a name, then the largest member of a union.
const IFREQ_BYTES: usize = size_of::<libc::ifreq>();
/// More addresses than this are cut off.
const MAX_ADDRESSES: usize = 64;

/// The interfaces with IPv4 addresses in the socket's network namespace (netdevice(7),
/// `SIOCGIFCONF`).
pub(super) fn ipv4_interfaces(socket: BorrowedFd<'_>) -> io::Result<Vec<(String, IpAddr)>> {
    let mut buffer = [0u8; IFREQ_BYTES * MAX_ADDRESSES];
    let mut request = libc::ifconf {
        ifc_len: c_int::try_from(buffer.len()).unwrap_or(c_int::MAX),
        ifc_ifcu: libc::__c_anonymous_ifc_ifcu {
            ifcu_buf: buffer.as_mut_ptr().cast(),
        },
    };
    // SAFETY: the kernel writes at most `ifc_len` bytes into `buffer`, which outlives the call,
    // and only the length in `request`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFCONF, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let written = usize::try_from(request.ifc_len).unwrap_or_default();
    let entries = buffer.get(..written).unwrap_or_default();
    Ok(entries
        .chunks_exact(IFREQ_BYTES)
        .filter_map(read_entry)
        .collect())
}

/// Reads a `struct ifreq` that holds a `struct sockaddr_in`.
fn read_entry(entry: &[u8]) -> Option<(String, IpAddr)> {
    let (name, address) = entry.split_first_chunk::<{ libc::IFNAMSIZ }>()?;
    let name = name.split(|byte| *byte == 0).next()?;
    // Behind the family (2 bytes) and the port (2 bytes).
    let octets: [u8; 4] = *address.get(4..)?.first_chunk()?;
    Some((
        String::from_utf8_lossy(name).into_owned(),
        Ipv4Addr::from(octets).into(),
    ))
}

#[cfg(test)]
pub(in crate::enrolment) mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    /// Attaches a filter that lets everything pass; `false` where only the privileged may, for then
    /// a Pod cannot either.
    pub(in crate::enrolment) fn attach_filter(socket: BorrowedFd<'_>) -> bool {
        // BPF_RET | BPF_K: accept all.
        let mut instruction = libc::sock_filter {
            code: 6,
            jt: 0,
            jf: 0,
            k: u32::MAX,
        };
        let program = libc::sock_fprog {
            len: 1,
            filter: &raw mut instruction,
        };
        let length = socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap();
        // SAFETY: the kernel copies the program, which lives through the call.
        let attached = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                length,
            )
        };
        if attached != 0 {
            let error = io::Error::last_os_error().raw_os_error();
            assert_eq!(error, Some(libc::EPERM));
        }
        attached == 0
    }

    #[test]
    fn a_socket_filter_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(has_filter(listener.as_fd()), Ok(false));
        if attach_filter(listener.as_fd()) {
            assert_eq!(has_filter(listener.as_fd()), Ok(true));
        }
    }

    #[test]
    fn an_upper_layer_protocol_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(has_upper_layer(listener.as_fd()), Ok(false));
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(has_upper_layer(stream.as_fd()), Ok(false));
        // Kernel TLS attaches to connections alone. A listener has an upper layer if it was such a
        // connection before, which newer kernels refuse.
        // SAFETY: the kernel copies the name, which lives through the call.
        let attached = unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_ULP,
                c"tls".as_ptr().cast(),
                3,
            )
        };
        if attached == 0 {
            assert_eq!(has_upper_layer(stream.as_fd()), Ok(true));
        } else {
            // This kernel has none: then a Pod cannot attach it either.
            let error = io::Error::last_os_error().raw_os_error();
            assert_eq!(error, Some(libc::ENOENT));
        }
    }

    #[test]
    fn loopback_is_among_the_interfaces_with_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let interfaces = ipv4_interfaces(listener.as_fd()).unwrap();
        let loopback = ("lo".to_owned(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(interfaces.contains(&loopback), "{interfaces:?}");
    }

    #[test]
    fn a_cut_entry_is_no_interface() {
        assert_eq!(read_entry(&[0; 20]), None);
    }
}
