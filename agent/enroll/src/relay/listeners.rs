//! The listeners on the Pod's loopback addresses.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_reuseaddr, set_tcp_nodelay};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

/// The kernel cuts it to `net.core.somaxconn`. More connections than are carried wait here.
const BACKLOG: i32 = 1024;

/// What a relay listens on.
pub(super) struct Listeners {
    v4: OwnedFd,
    /// Where the Pod has IPv6.
    v6: Option<OwnedFd>,
}

impl Listeners {
    pub(super) fn open(port: u16, ipv6: bool) -> Result<Self, Errno> {
        let v4 = listen(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())?;
        let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0).into();
        let v6 = ipv6.then(|| listen(&v6)).and_then(Result::ok);
        Ok(Self { v4, v6 })
    }

    /// One or two.
    pub(super) fn all(&self) -> impl Iterator<Item = &OwnedFd> {
        core::iter::once(&self.v4).chain(&self.v6)
    }
}

fn listen(address: &SocketAddr) -> Result<OwnedFd, Errno> {
    let listener = socket(address, SocketFlags::NONBLOCK)?;
    // Connections of a relay before this one may linger in TIME_WAIT.
    set_socket_reuseaddr(&listener, true)?;
    rustix::net::bind(&listener, address)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn socket(address: &SocketAddr, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = flags | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
}

/// Takes the next connection, if one waits.
pub(super) fn accept(listener: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let client = rustix::net::accept_with(listener, flags)?;
    // An answer in two parts would wait for the client's acknowledgement of the first.
    set_tcp_nodelay(&client, true)?;
    Ok(client)
}

/// Tells whether something listens on the port. A relay sees a client that says nothing.
pub(super) fn is_served(port: u16) -> bool {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into();
    let connected = socket(&address, SocketFlags::empty())
        .and_then(|socket| rustix::net::connect(&socket, &address));
    connected.is_ok()
}
