//! Tells a good listener from whatever else a Pod may hand over.

pub(in crate::enrolment) mod sockopt;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, ipproto, netdevice, sockopt as options};

/// Why a descriptor is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Problem {
    #[error("it is no TCP socket")]
    NotTcp,
    #[error("it does not listen")]
    NotListening,
    #[error("it listens on `{0}`, not on loopback")]
    NotLoopback(String),
    #[error("a socket filter or an upper layer protocol is attached to it")]
    Tampered,
    #[error("it is in the agent's own network namespace")]
    OwnNamespace,
    #[error("the listeners are in different network namespaces")]
    DifferentNamespaces,
    #[error("its network namespace has none of the Pod's addresses")]
    NotThePods,
}

/// Checks that `socket` is a TCP listener on exactly 127.0.0.1 or `[::1]`, and returns which.
///
/// What it finds may change later if the peer has kept the socket; see `reown`.
pub(super) fn check_listener(socket: BorrowedFd<'_>) -> Result<IpAddr, Problem> {
    let loopback = match options::socket_domain(socket) {
        Ok(AddressFamily::INET) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Ok(AddressFamily::INET6) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => return Err(Problem::NotTcp),
    };
    // TCP's number is not 0, so the default protocol shows as TCP as well.
    if options::socket_type(socket) != Ok(SocketType::STREAM)
        || options::socket_protocol(socket) != Ok(Some(ipproto::TCP))
    {
        return Err(Problem::NotTcp);
    }
    if options::socket_acceptconn(socket) != Ok(true) {
        return Err(Problem::NotListening);
    }
    let local = local_address(socket).ok_or(Problem::NotTcp)?;
    if local.ip() != loopback {
        return Err(Problem::NotLoopback(local.to_string()));
    }
    check_untampered(socket)?;
    Ok(loopback)
}

/// Where a TCP socket listens, or what its peer has connected to; `None` for one that does not say.
pub(crate) fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()
}

/// Whether `connection` is a TCP connection to where `listener` listens.
pub(super) fn is_of(connection: &OwnedFd, listener: &OwnedFd) -> bool {
    let address = local_address(connection);
    address.is_some()
        && address == local_address(listener)
        && options::socket_type(connection) == Ok(SocketType::STREAM)
        && options::socket_acceptconn(connection) == Ok(false)
}

/// Checks that nothing is attached that could read, drop or change what the socket carries.
pub(super) fn check_untampered(socket: BorrowedFd<'_>) -> Result<(), Problem> {
    if sockopt::has_filter(socket) == Ok(false) && sockopt::has_upper_layer(socket) == Ok(false) {
        Ok(())
    } else {
        Err(Problem::Tampered)
    }
}

/// What container runtimes call the interface of a Pod, whatever addresses it has.
pub(in crate::enrolment) const POD_INTERFACE: &str = "eth0";

/// The IPv4 addresses in the network namespace of `socket`, without those of loopback; none where
/// they cannot be read.
pub(crate) fn addresses(socket: BorrowedFd<'_>) -> Vec<IpAddr> {
    let listed = sockopt::ipv4_interfaces(socket).unwrap_or_default();
    let addresses = listed.into_iter().map(|(_, address)| address);
    addresses.filter(|address| !address.is_loopback()).collect()
}

/// Identifies a network namespace; `None` on kernels before 5.14.
pub(super) type Cookie = Option<u64>;

/// What can be seen of a Pod's network namespace through a socket in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) cookie: Cookie,
    /// The interfaces by which the Pod is known to live, by index: `eth0`, or without one all that
    /// have an IPv4 address and are not loopback.
    pub(super) interfaces: Vec<u32>,
}

impl Namespace {
    /// Looks at the namespace of `socket`, which must have one of the addresses in `expected`
    /// where that has an IPv4 address.
    pub(super) fn inspect(
        socket: BorrowedFd<'_>,
        own: Cookie,
        expected: &[IpAddr],
    ) -> Result<Self, Problem> {
        let cookie = sockopt::netns_cookie(socket);
        if cookie.is_some() && cookie == own {
            return Err(Problem::OwnNamespace);
        }
        let listed = sockopt::ipv4_interfaces(socket).unwrap_or_default();
        let has = |address: &IpAddr| listed.iter().any(|(_, listed)| listed == address);
        let mut comparable = expected
            .iter()
            .filter(|address| address.is_ipv4())
            .peekable();
        if comparable.peek().is_some() && !comparable.any(has) {
            return Err(Problem::NotThePods);
        }
        let index = |name: &str| netdevice::name_to_index(socket, name).ok();
        // Not every interface: those that a Pod makes for itself (`docker0`), and those that some
        // kernels put into every namespace (`tunl0`, without an address), outlive the Pod.
        let interfaces = match index(POD_INTERFACE) {
            Some(eth0) => vec![eth0],
            None => listed
                .iter()
                .filter(|(_, address)| !address.is_loopback())
                .filter_map(|(name, _)| index(name))
                .collect(),
        };
        Ok(Self { cookie, interfaces })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_of_the_listener_that_it_was_made_to_and_of_no_other() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let client = TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
        let (server, _) = listeners[0].accept().unwrap();
        let [server, client] = [server, client].map(OwnedFd::from);
        let [listener, other] = listeners.map(OwnedFd::from);
        assert!(is_of(&server, &listener));
        assert!(!is_of(&server, &other), "of another listener");
        assert!(!is_of(&client, &listener), "the client's own side");
        assert!(!is_of(&listener, &listener), "no connection at all");
    }
}
