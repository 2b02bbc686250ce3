//! One attempt: open listeners, connect to the agent, send one packet, read one answer.

use core::fmt;
use core::mem::MaybeUninit;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use core::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice};
use rustix::net::addr::SocketAddrArg;
use rustix::net::sockopt::{Timeout, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, ipproto,
};
use shared::enrolment::{MAX_DESCRIPTORS, MAX_REPLY_BYTES, Status, header, parse_reply};

use crate::arguments::{Arguments, Mode};
use crate::output::{Excerpt, Reason};
use crate::token::Token;

/// The agent answers within its wait for the first exchange, some seconds at most.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// How an attempt ended.
#[expect(clippy::large_enum_variant, reason = "there is no heap to box it on")]
pub(crate) enum Attempt {
    Answered(Status, Message),
    Absent(Absence),
    /// Something that waiting does not cure: what was tried, and the error.
    Failed(&'static str, Errno),
}

/// Why no agent has decided; worth another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is no heap to box it on")]
pub(crate) enum Absence {
    Missing,
    Refuses,
    Denied,
    Silent,
    HungUp,
    Nonsense,
    Busy(Excerpt),
    Other(Errno),
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist yet"),
            Self::Refuses => f.write_str("has no agent behind it"),
            Self::Denied => f.write_str("may not be connected to (permissions, SELinux?)"),
            Self::Silent => f.write_str("does not answer"),
            Self::HungUp => f.write_str("hung up without an answer"),
            Self::Nonsense => f.write_str("answered what is no reply"),
            Self::Busy(message) => write!(f, "is busy: {message}"),
            Self::Other(errno) => write!(f, "fails: {}", Reason(*errno)),
        }
    }
}

/// The message of an answer, as it came.
pub(crate) struct Message {
    packet: [u8; MAX_REPLY_BYTES],
    length: usize,
}

impl Message {
    pub(crate) fn bytes(&self) -> &[u8] {
        // The first byte is the status.
        self.packet.get(1..self.length).unwrap_or_default()
    }
}

/// Asks the agent once.
pub(crate) fn enrol(arguments: &Arguments<'_>, token: &Token) -> Attempt {
    let agent = match dial(arguments) {
        Ok(agent) => agent,
        Err(errno) => return Attempt::Absent(absence(errno)),
    };
    let v4 = |port| {
        Loopback::open(
            AddressFamily::INET,
            &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
        )
    };
    let v4 = match open(arguments, v4) {
        Ok(pair) => pair,
        Err(errno) => return Attempt::Failed("listen on 127.0.0.1", errno),
    };
    // A Pod without IPv6 has no [::1]; that is no failure.
    let v6 = |port| {
        let address = SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0);
        Loopback::open(AddressFamily::INET6, &address)
    };
    let v6 = arguments
        .ipv6
        .then(|| open(arguments, v6))
        .and_then(Result::ok);
    let mut packet = [0; MAX_REPLY_BYTES];
    let sent = match &v6 {
        Some(v6) => send(
            &agent,
            arguments.port,
            token,
            &[v4.listener.as_fd(), v6.listener.as_fd()],
        ),
        None => send(&agent, arguments.port, token, &[v4.listener.as_fd()]),
    };
    let received = sent.and_then(|()| {
        rustix::io::retry_on_intr(|| {
            rustix::net::recv(&agent, packet.as_mut_slice(), RecvFlags::empty())
        })
    });
    match received {
        Ok((0, _)) => Attempt::Absent(Absence::HungUp),
        Ok((length, _)) => match parse_reply(packet.get(..length).unwrap_or_default()) {
            Some((status, _)) => Attempt::Answered(status, Message { packet, length }),
            None => Attempt::Absent(Absence::Nonsense),
        },
        Err(errno) => Attempt::Absent(absence(errno)),
    }
}

/// Opens a listener on the port that the mode asks for. A port that is taken may be so by the agent
/// itself, when this Pod is enrolled already: then any other lets the agent decide.
fn open(
    arguments: &Arguments<'_>,
    listen: impl Fn(u16) -> Result<Loopback, Errno>,
) -> Result<Loopback, Errno> {
    match arguments.mode {
        Mode::Reown => listen(0),
        Mode::Plain => match listen(arguments.port) {
            Err(Errno::ADDRINUSE) => listen(0),
            opened => opened,
        },
    }
}

/// What an error says about the agent behind a socket.
pub(crate) fn absence(errno: Errno) -> Absence {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Absence::Missing,
        Errno::CONNREFUSED => Absence::Refuses,
        Errno::ACCESS | Errno::PERM => Absence::Denied,
        Errno::AGAIN | Errno::TIMEDOUT => Absence::Silent,
        Errno::PIPE | Errno::CONNRESET => Absence::HungUp,
        other => Absence::Other(other),
    }
}

/// Connects to the agent. Every later call on the socket ends within [`REPLY_TIMEOUT`].
fn dial(arguments: &Arguments<'_>) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(arguments.socket)?;
    let agent = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_timeout(&agent, Timeout::Send, Some(REPLY_TIMEOUT))?;
    set_socket_timeout(&agent, Timeout::Recv, Some(REPLY_TIMEOUT))?;
    rustix::net::connect(&agent, &address)?;
    Ok(agent)
}

/// A listener, and the connection to it that the agent is to accept.
struct Loopback {
    listener: OwnedFd,
    _connection: OwnedFd,
}

impl Loopback {
    fn open(family: AddressFamily, address: &impl SocketAddrArg) -> Result<Self, Errno> {
        let socket = || {
            let flags = SocketFlags::CLOEXEC;
            rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
        };
        let listener = socket()?;
        // A connection of an earlier attempt may linger in TIME_WAIT.
        set_socket_reuseaddr(&listener, true)?;
        rustix::net::bind(&listener, address)?;
        rustix::net::listen(&listener, 1)?;
        let connection = socket()?;
        rustix::net::connect(&connection, &rustix::net::getsockname(&listener)?)?;
        Ok(Self {
            listener,
            _connection: connection,
        })
    }
}

fn send(
    agent: &OwnedFd,
    port: u16,
    token: &Token,
    listeners: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let header = header(port);
    let parts = [IoSlice::new(&header), IoSlice::new(token.bytes())];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(listeners)) {
        return Err(Errno::NOBUFS);
    }
    rustix::net::sendmsg(agent, &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
