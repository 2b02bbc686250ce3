//! One direction of a connection.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// Bytes on their way from a source to a sink, in memory that is lent for each call. Those that
/// were sent stay until they are forgotten or room is needed: another sink can have them again.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    sent: usize,
    filled: usize,
    /// Bytes that were sent had to make room since the last [`forget`](Self::forget).
    cut: bool,
    /// The source has ended.
    pub(super) ended: bool,
}

impl Pipe {
    /// Reads what there is room for. Returns how many bytes came; the end of the source is
    /// remembered.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>, memory: &mut [u8]) -> Result<usize, Errno> {
        if self.filled == memory.len() && self.sent > 0 {
            self.drop_sent(memory);
            self.cut = true;
        }
        let Some(free @ [_, ..]) = memory.get_mut(self.filled..) else {
            return Ok(0);
        };
        if self.ended {
            return Ok(0);
        }
        match rustix::net::recv(from, free, RecvFlags::empty()) {
            Ok((0, _)) => {
                self.ended = true;
                Ok(0)
            }
            Ok((read, _)) => {
                self.filled += read;
                Ok(read)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    /// Sends what the sink takes, and returns how many bytes it took.
    pub(super) fn drain(&mut self, to: BorrowedFd<'_>, memory: &[u8]) -> Result<usize, Errno> {
        let Some(unsent @ [_, ..]) = memory.get(self.sent..self.filled) else {
            return Ok(0);
        };
        match rustix::net::send(to, unsent, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.sent += sent;
                Ok(sent)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    /// Forgets what was sent: nobody will need it again.
    pub(super) fn forget(&mut self, memory: &mut [u8]) {
        self.drop_sent(memory);
        self.cut = false;
    }

    fn drop_sent(&mut self, memory: &mut [u8]) {
        memory.copy_within(self.sent..self.filled, 0);
        self.filled -= self.sent;
        self.sent = 0;
    }

    /// Takes everything back that is not forgotten, to send it again; `false` if something of it is
    /// missing.
    pub(super) fn rewind(&mut self) -> bool {
        self.sent = 0;
        !self.cut
    }

    /// Whether [`fill`](Self::fill) would read.
    pub(super) fn has_room(&self, memory: &[u8]) -> bool {
        !self.ended && self.filled - self.sent < memory.len()
    }

    /// Whether something is to be sent.
    pub(super) fn is_behind(&self) -> bool {
        self.sent < self.filled
    }

    /// Whether nothing is in it, sent or not.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What the sink has got so far.
    fn got(sink: &mut UnixStream) -> String {
        let mut bytes = [0; 64];
        let read = sink.read(&mut bytes).expect("bytes");
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    #[test]
    fn what_was_sent_can_be_sent_again_until_it_is_forgotten_or_makes_room() {
        let (mut source, from) = UnixStream::pair().expect("a pair");
        let (to, mut sink) = UnixStream::pair().expect("a pair");
        let mut memory = [0; 8];
        let mut pipe = Pipe::default();
        let mut carry = |pipe: &mut Pipe, bytes: &[u8]| {
            source.write_all(bytes).expect("room");
            assert_eq!(pipe.fill(from.as_fd(), &mut memory), Ok(bytes.len()));
            pipe.drain(to.as_fd(), &memory).expect("room");
            memory
        };
        let mut copy = carry(&mut pipe, b"abc");
        assert_eq!(got(&mut sink), "abc");
        assert!(!pipe.is_behind() && pipe.rewind());
        carry(&mut pipe, b"de");
        assert_eq!(got(&mut sink), "abcde");
        pipe.forget(&mut copy);
        assert!(pipe.is_empty());

        carry(&mut pipe, b"01234567");
        assert_eq!(got(&mut sink), "01234567");
        carry(&mut pipe, b"89");
        assert_eq!(got(&mut sink), "89");
        assert!(!pipe.rewind(), "bytes are missing");
    }

    #[test]
    fn the_end_of_the_source_is_remembered_behind_its_last_bytes() {
        let (mut source, from) = UnixStream::pair().expect("a pair");
        let (mut memory, mut pipe) = ([0; 8], Pipe::default());
        source.write_all(b"abc").expect("room");
        drop(source);
        assert_eq!(pipe.fill(from.as_fd(), &mut memory), Ok(3));
        assert!(!pipe.ended);
        assert_eq!(pipe.fill(from.as_fd(), &mut memory), Ok(0));
        assert!(pipe.ended && !pipe.has_room(&memory));
    }
}
