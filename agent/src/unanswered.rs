//! Connections whose first request is being answered, held where they outlive this process.
//!
//! A process that is killed takes its connections with it. So each one is put into a slot before
//! its request is read: a socket that is connected to itself, in effect, in whose queue the kernel
//! holds one more descriptor of the connection. The keeper has the slots' far ends. An agent that has
//! answered, or has to wait, takes the connection out again; one that has died left it there, and its request with it
//! ([`Eager::held`](shared::serve::Eager::held)), for the next one.
//!
//! That is all there is when the whole container is killed. When the worker alone is, its
//! [`heir`](crate::heir) puts into the slots what it finds of other connections.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keeper::packet::{self, Packet};
use keeper::protocol::MAX_DESCRIPTORS;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// As many as requests are answered in one turn of the event loop, one on each thread of the runtime.
/// All go in one message.
pub(crate) const SLOTS: usize = MAX_DESCRIPTORS;

/// Which listener a connection is of: the number that the kernel gives its socket, the same in every
/// process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(u64);

impl Origin {
    /// That of connections to `listener`.
    ///
    /// # Errors
    /// What `fstat` says.
    pub(crate) fn of(listener: impl AsFd) -> io::Result<Self> {
        Ok(Self(rustix::fs::fstat(listener)?.st_ino))
    }
}

/// The slots, and what an agent before this one left in its own.
pub struct Unanswered {
    far_ends: Vec<Arc<OwnedFd>>,
    free: Mutex<Vec<Slot>>,
    left: Mutex<HashMap<Origin, Vec<OwnedFd>>>,
}

/// A place for one connection.
struct Slot {
    near: OwnedFd,
    far: Arc<OwnedFd>,
}

impl fmt::Debug for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unanswered").finish_non_exhaustive()
    }
}

impl Unanswered {
    /// Makes the slots.
    ///
    /// # Errors
    /// When the process may not have more descriptors.
    pub fn new() -> io::Result<Arc<Self>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let mut free = Vec::with_capacity(SLOTS);
        for _ in 0..SLOTS {
            let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            let far = Arc::new(far);
            free.push(Slot { near, far });
        }
        Ok(Arc::new(Self {
            far_ends: free.iter().map(|slot| Arc::clone(&slot.far)).collect(),
            free: Mutex::new(free),
            left: Mutex::default(),
        }))
    }

    /// What the keeper is to hold.
    pub(crate) fn far_ends(&self) -> Vec<BorrowedFd<'_>> {
        self.far_ends.iter().map(|far| far.as_fd()).collect()
    }

    /// The numbers of the descriptors that connections are put in through. To be called before any
    /// connection is held.
    pub(crate) fn near_ends(&self) -> Vec<RawFd> {
        let free = self.free();
        free.iter().map(|slot| slot.near.as_raw_fd()).collect()
    }

    /// Holds `connection`, which came through the listener of `origin`, until what comes back is
    /// dropped; `None` while all slots are taken.
    pub(crate) fn hold(
        self: &Arc<Self>,
        connection: BorrowedFd<'_>,
        origin: Origin,
    ) -> Option<Held> {
        let slot = self.free().pop()?;
        let sent = put(&slot.near, connection, origin);
        let held = Held {
            slot: Some(slot),
            home: Arc::clone(self),
        };
        sent.is_ok().then_some(held)
    }

    /// Takes over what an agent that has died left in the slots with these far ends, and says how
    /// many connections that are. One that the agent held, and its heir has found too, is one.
    pub(crate) fn take_over(&self, far_ends: &[OwnedFd]) -> u64 {
        let mut taken = 0;
        let mut known = HashSet::new();
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        for far in far_ends {
            while let Some((origin, connection)) = next(far) {
                let is_new = rustix::fs::fstat(&connection).is_ok_and(|it| known.insert(it.st_ino));
                if is_new {
                    left.entry(origin).or_default().push(connection);
                    taken += 1;
                }
            }
        }
        taken
    }

    /// Those of the connections taken over that came through the listener of `origin`.
    pub(crate) fn left_on(&self, origin: Origin) -> Vec<OwnedFd> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.remove(&origin).unwrap_or_default()
    }

    /// Closes the connections taken over whose listener has not been served since.
    pub(crate) fn forget_left(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.clear();
    }

    fn free(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts `connection`, which came through the listener of `origin`, into the slot with this near end.
///
/// # Errors
/// What [`packet::send`] says; [`WouldBlock`](io::ErrorKind::WouldBlock) when the slot is full.
pub(crate) fn put(near: impl AsFd, connection: BorrowedFd<'_>, origin: Origin) -> io::Result<()> {
    packet::send(near, &origin.0.to_ne_bytes(), &[connection])
}

/// The next connection in the slot with this far end. Whoever can reach the keeper might have put
/// something else there: that is closed.
fn next(far: &OwnedFd) -> Option<(Origin, OwnedFd)> {
    loop {
        let Packet {
            bytes,
            mut descriptors,
        } = packet::receive_up_to(far, size_of::<u64>()).ok()?;
        if bytes.is_empty() {
            return None;
        }
        let origin = bytes.try_into().map(u64::from_ne_bytes).map(Origin);
        if let (Ok(origin), Some(connection), true) =
            (origin, descriptors.pop(), descriptors.is_empty())
        {
            return Some((origin, connection));
        }
    }
}

/// A connection in a slot.
pub struct Held {
    slot: Option<Slot>,
    home: Arc<Unanswered>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            drop(next(&slot.far));
            self.home.free().push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A client that has asked, and the connection to it.
    fn asked(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"ask").unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, server)
    }

    fn kept_by_the_keeper(unanswered: &Unanswered) -> Vec<OwnedFd> {
        let far_ends = unanswered.far_ends().into_iter();
        far_ends
            .map(|far| far.try_clone_to_owned().unwrap())
            .collect()
    }

    #[test]
    fn what_an_agent_had_not_answered_when_it_died_is_answered_by_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Origin::of(&listener).unwrap();
        let died = Unanswered::new().unwrap();
        let kept = kept_by_the_keeper(&died);
        let (mut client, server) = asked(&listener);
        let held = died.hold(server.as_fd(), origin).unwrap();
        // What the end of the process does: its descriptors are closed, and nothing else happens.
        std::mem::forget(held);
        drop((server, died));

        let next = Unanswered::new().unwrap();
        assert_eq!(next.take_over(&kept), 1);
        assert!(next.left_on(Origin::of(&other).unwrap()).is_empty());
        let [left] = <[OwnedFd; 1]>::try_from(next.left_on(origin)).unwrap();
        let address = TcpStream::from(left.try_clone().unwrap()).local_addr();
        assert_eq!(address.unwrap(), listener.local_addr().unwrap());
        let mut left = TcpStream::from(left);
        let mut request = [0; 3];
        left.read_exact(&mut request).unwrap();
        left.write_all(b"answer").unwrap();
        drop(left);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((&request, answer.as_str()), (b"ask", "answer"));
    }

    #[test]
    fn an_answered_connection_leaves_its_slot_free_and_nothing_behind() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Origin::of(&listener).unwrap();
        let unanswered = Unanswered::new().unwrap();
        let kept = kept_by_the_keeper(&unanswered);
        for _ in 0..3 {
            let connections: Vec<_> = (0..=SLOTS).map(|_| asked(&listener)).collect();
            let held: Vec<_> = connections
                .iter()
                .map(|(_, server)| unanswered.hold(server.as_fd(), origin))
                .collect();
            assert_eq!(held.iter().flatten().count(), SLOTS, "the last finds none");
            drop(held);
            for (mut client, server) in connections {
                (&server).read_exact(&mut [0; 3]).unwrap();
                drop(server);
                assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "it ends at once");
            }
        }
        assert_eq!(Unanswered::new().unwrap().take_over(&kept), 0);
    }

    #[test]
    fn a_connection_that_is_in_two_slots_is_taken_over_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Origin::of(&listener).unwrap();
        let died = Unanswered::new().unwrap();
        let kept = kept_by_the_keeper(&died);
        let near_ends: Vec<_> = died
            .free()
            .iter()
            .map(|slot| slot.near.try_clone())
            .collect();
        let (_client, held) = asked(&listener);
        let (_other_client, found) = asked(&listener);
        std::mem::forget(died.hold(held.as_fd(), origin).unwrap());
        // What its heir does.
        for near in near_ends {
            let near = near.unwrap();
            put(&near, held.as_fd(), origin).unwrap();
            put(&near, found.as_fd(), origin).unwrap();
        }
        drop((held, found, died));
        let next = Unanswered::new().unwrap();
        assert_eq!(next.take_over(&kept), 2);
        assert_eq!(next.left_on(origin).len(), 2);
    }

    #[test]
    fn what_does_not_belong_in_a_slot_is_closed() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (near, far) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Origin::of(&listener).unwrap();
        packet::send(&near, b"short", &[listener.as_fd()]).unwrap();
        packet::send(&near, &origin.0.to_ne_bytes(), &[]).unwrap();
        packet::send(&near, &origin.0.to_ne_bytes(), &[listener.as_fd()]).unwrap();
        drop(near);
        let unanswered = Unanswered::new().unwrap();
        assert_eq!(unanswered.take_over(&[far]), 1);
    }
}
