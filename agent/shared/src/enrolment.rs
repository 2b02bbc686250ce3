//! The wire protocol of `enroll.sock`: `caios-enroll` asks, the agent answers.
//!
//! The socket is `AF_UNIX`, `SOCK_SEQPACKET`. A connection carries one request packet and one
//! reply packet.
//!
//! The request is [`MAGIC`], [`VERSION`], the wanted port (big-endian), and the service account
//! token to the end of the packet. With it come one or two descriptors by `SCM_RIGHTS`: a TCP
//! listener on `127.0.0.1`, then, where the Pod has IPv6, one on `[::1]`. The client has connected
//! to each of them and keeps those connections open until the reply: the agent accepts them to
//! get sockets in the Pod's network namespace that nobody else holds.
//!
//! The reply is one byte, a [`Status`], and a message for a person, in UTF-8.

use crate::contract::MAX_TOKEN_BYTES;

/// How every request begins.
pub const MAGIC: [u8; 7] = *b"caios-e";

/// The version of this protocol. An agent rejects all others with a message.
pub const VERSION: u8 = 1;

/// The bytes of a request before the token: magic, version, port.
pub const HEADER_BYTES: usize = MAGIC.len() + 1 + 2;

/// The longest request packet, in bytes.
pub const MAX_REQUEST_BYTES: usize = HEADER_BYTES + MAX_TOKEN_BYTES;

/// The longest reply packet, in bytes. The agent cuts its message to fit.
pub const MAX_REPLY_BYTES: usize = 2048;

/// The most descriptors that one request carries.
pub const MAX_DESCRIPTORS: usize = 2;

/// Renders the bytes of a request before its token.
pub fn header(port: u16) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let fields = MAGIC.into_iter().chain([VERSION]).chain(port.to_be_bytes());
    for (to, from) in header.iter_mut().zip(fields) {
        *to = from;
    }
    header
}

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The port to listen on in the Pod; not 0.
    pub port: u16,
    /// The Pod's service account token, not yet checked; not empty.
    pub token: &'a [u8],
}

/// Why a packet is not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// It does not begin with [`MAGIC`], or it is cut.
    NotARequest,
    /// It is of another version than [`VERSION`].
    Version(u8),
    /// Port 0.
    NoPort,
    /// No token.
    NoToken,
    /// It is longer than [`MAX_REQUEST_BYTES`].
    TooLong,
}

/// Reads a request packet.
///
/// # Errors
/// [`RequestError`] says what is wrong with it.
pub fn parse_request(packet: &[u8]) -> Result<Request<'_>, RequestError> {
    let rest = packet
        .strip_prefix(MAGIC.as_slice())
        .ok_or(RequestError::NotARequest)?;
    let (version, rest) = rest.split_first().ok_or(RequestError::NotARequest)?;
    if *version != VERSION {
        return Err(RequestError::Version(*version));
    }
    let (port, token) = rest.split_first_chunk().ok_or(RequestError::NotARequest)?;
    let port = u16::from_be_bytes(*port);
    if port == 0 {
        return Err(RequestError::NoPort);
    }
    if token.is_empty() {
        return Err(RequestError::NoToken);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(RequestError::TooLong);
    }
    Ok(Request { port, token })
}

/// How an enrolment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The listener is served and the credentials are in memory.
    Ready = b'1',
    /// The listener is served; the first exchange has not ended yet.
    Enrolled = b'2',
    /// The listener is served, but CoreWeave refuses credentials; the message says what to grant.
    RefusedByIssuer = b'3',
    /// Not enrolled, and trying again would not help.
    Rejected = b'4',
    /// Not enrolled now; try again.
    Busy = b'5',
}

/// Reads a reply packet: the status, and the message as the agent sent it.
///
/// `None` if it begins with no known status. The message is whatever came: show it escaped.
pub const fn parse_reply(packet: &[u8]) -> Option<(Status, &[u8])> {
    let Some((first, message)) = packet.split_first() else {
        return None;
    };
    let status = match *first {
        b'1' => Status::Ready,
        b'2' => Status::Enrolled,
        b'3' => Status::RefusedByIssuer,
        b'4' => Status::Rejected,
        b'5' => Status::Busy,
        _ => return None,
    };
    Some((status, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(header: &[u8], token: &[u8]) -> Vec<u8> {
        [header, token].concat()
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let packet = packet(&header(27169), b"token");
        let request = parse_request(&packet).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!((request.port, request.token), (27169, &b"token"[..]));
    }

    #[test]
    fn every_cut_of_a_request_is_refused() {
        let whole = packet(&header(27169), b"t");
        for length in 0..whole.len() {
            assert!(parse_request(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn another_version_a_zero_port_and_a_long_token_are_told_apart() {
        let mut other = packet(&header(1), b"t");
        other[MAGIC.len()] = 9;
        assert_eq!(parse_request(&other).err(), Some(RequestError::Version(9)));
        let zero = packet(&header(0), b"t");
        assert_eq!(parse_request(&zero).err(), Some(RequestError::NoPort));
        let long = packet(&header(1), &vec![b'x'; MAX_TOKEN_BYTES + 1]);
        assert_eq!(parse_request(&long).err(), Some(RequestError::TooLong));
    }

    #[test]
    fn a_reply_is_read_back_and_an_unknown_status_is_not() {
        for status in [
            Status::Ready,
            Status::Enrolled,
            Status::RefusedByIssuer,
            Status::Rejected,
            Status::Busy,
        ] {
            let packet = [&[status as u8][..], b"why"].concat();
            assert_eq!(parse_reply(&packet), Some((status, &b"why"[..])));
        }
        assert_eq!(parse_reply(b"x"), None);
        assert_eq!(parse_reply(b""), None);
    }
}
