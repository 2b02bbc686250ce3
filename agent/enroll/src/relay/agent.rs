//! The way to the agent, and what is said about it.

use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::attempt::absence;
use crate::output::{Escaped, Streams};

/// An absence that goes on is said again after this time; one that comes and goes, too.
const REPEAT_S: i64 = 10;

/// Dials the agent's socket, and says when it is away and when it is back.
pub(super) struct Agent<'a> {
    socket: &'a CStr,
    streams: Streams<'a>,
    /// Said, and not over yet.
    away: bool,
    said_s: Option<i64>,
}

impl<'a> Agent<'a> {
    pub(super) fn new(socket: &'a CStr, streams: Streams<'a>) -> Self {
        Self {
            socket,
            streams,
            away: false,
            said_s: None,
        }
    }

    /// Opens a connection that does not block; `None` while the agent is away. `now_s` is the time
    /// since boot, in seconds.
    pub(super) fn dial(&mut self, now_s: i64) -> Option<OwnedFd> {
        match connect(self.socket) {
            Ok(connection) => {
                if core::mem::take(&mut self.away) {
                    self.streams.say(format_args!("the node's agent is back"));
                }
                Some(connection)
            }
            Err(errno) => {
                let quiet = self.said_s.is_some_and(|said| now_s - said < REPEAT_S);
                if !quiet {
                    let (socket, away) = (Escaped(self.socket.to_bytes()), absence(errno));
                    self.streams.say(format_args!(
                        "requests wait for the node's agent: `{socket}` {away}; is its Pod running \
                         on this node?"
                    ));
                    self.said_s = Some(now_s);
                    self.away = true;
                }
                None
            }
        }
    }
}

fn connect(socket: &CStr) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(socket)?;
    // A full backlog is an error too, and not waited for.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connection =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&connection, &address)?;
    Ok(connection)
}
