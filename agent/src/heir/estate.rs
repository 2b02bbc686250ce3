//! Which of a worker's descriptors are connections to hand on. Pure: it is told what each one is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// Where a TCP socket is: two Pods have the same address in different networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// The cookie of its network namespace.
    pub(super) network: u64,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A TCP socket that listens.
    Listener(Place),
    /// A TCP connection on which a request begins that nobody has read.
    Unread(Place),
}

/// The connections among `all`, each with the listener that it came through.
pub(super) fn unread(all: impl Iterator<Item = (RawFd, Seen)>) -> Vec<(RawFd, RawFd)> {
    let mut listeners = HashMap::new();
    let mut connections = Vec::new();
    for (number, seen) in all {
        match seen {
            Seen::Listener(place) => {
                listeners.insert(place, number);
            }
            Seen::Unread(place) => connections.push((number, place)),
        }
    }
    let of = |(number, place)| Some((number, *listeners.get(&place)?));
    connections.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(address: &str, network: u64) -> Place {
        let address = address.parse().unwrap();
        Place { address, network }
    }

    #[test]
    fn a_connection_is_of_the_listener_with_its_address_in_its_network() {
        let all = [
            // It comes before its listener.
            (3, Seen::Unread(place("127.0.0.1:80", 7))),
            (4, Seen::Listener(place("127.0.0.1:80", 7))),
            (5, Seen::Listener(place("127.0.0.1:80", 8))),
            (6, Seen::Listener(place("[::1]:80", 7))),
            (7, Seen::Unread(place("127.0.0.1:80", 8))),
            (8, Seen::Unread(place("[::1]:80", 7))),
            (9, Seen::Unread(place("127.0.0.1:80", 7))),
            // Of no listener: another network, address, port.
            (10, Seen::Unread(place("127.0.0.1:80", 9))),
            (11, Seen::Unread(place("127.0.0.2:80", 7))),
            (12, Seen::Unread(place("127.0.0.1:81", 7))),
        ];
        let found = unread(all.into_iter());
        assert_eq!(found, [(3, 4), (7, 5), (8, 6), (9, 4)]);
    }

    #[test]
    fn without_listeners_nothing_is_handed_on() {
        let all = [(3, Seen::Unread(place("127.0.0.1:80", 7)))];
        assert_eq!(unread(all.into_iter()), []);
    }
}
