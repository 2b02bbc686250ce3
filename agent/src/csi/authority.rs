//! The authority of requests to the registration socket, made one that our HTTP/2 library takes.
//!
//! The kubelet's registration client (grpc-go) names the socket's path as `:authority`, and `h2`
//! refuses every request whose authority is none by RFC 3986 (hyperium/h2#487). Nobody here asks who
//! was meant: there is one server at a unix socket. So letters take the place of what the client
//! says, before `h2` reads it. Everything else passes as it is, and what makes no sense too: that is
//! for `h2` to refuse.

use std::convert::Infallible;
use std::io;
use std::ops::Range;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, copy, split,
};

/// How long what a client says first is, in bytes (RFC 9113, §3.4).
const PREFACE_BYTES: usize = 24;
/// How long the head of a frame is, in bytes (RFC 9113, §4.1).
const HEAD_BYTES: usize = 9;
/// The longest payload of a frame, in bytes, for as long as a server allows no more (RFC 9113, §6.5.2).
const MAX_PAYLOAD_BYTES: usize = 16 * 1024;
/// The type of a frame that begins a request, and flags of it (RFC 9113, §6.2).
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Stream and weight of a priority, in bytes.
const PRIORITY_BYTES: usize = 5;
/// The name `:authority` among those that need not be said (RFC 7541, appendix A).
const AUTHORITY: usize = 1;
/// A string is said in Huffman's code (RFC 7541, §5.2).
const HUFFMAN: u8 = 0x80;
const LETTER: u8 = b'a';

/// Carries what a client says to a server, with another authority, and what the server says back as it
/// is, until either of them hangs up, or the client sends a frame that is too large.
pub(super) async fn carry(client: impl AsyncRead + AsyncWrite, server: DuplexStream) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(server);
    let ended = tokio::select! {
        Err(error) = requests(&mut from_client, &mut to_server) => Err(error),
        ended = copy(&mut from_server, &mut to_client) => ended.map(drop),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection for registration has ended");
    }
}

/// Carries one frame after the other, and holds no more than one.
async fn requests(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<Infallible> {
    let mut bytes = vec![0; PREFACE_BYTES];
    from.read_exact(&mut bytes).await?;
    to.write_all(&bytes).await?;
    loop {
        let mut head = [0; HEAD_BYTES];
        from.read_exact(&mut head).await?;
        let [high, middle, low, kind, flags, ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame is larger than a client may send",
            ));
        }
        bytes.resize(length, 0);
        from.read_exact(&mut bytes).await?;
        replace(kind, flags, &mut bytes);
        to.write_all(&head).await?;
        to.write_all(&bytes).await?;
    }
}

/// Replaces the authority in the payload of a frame, if it has one.
///
/// Its length in octets stays, so nothing else moves. A client that used Huffman's code did so to say
/// more in as many octets: then the entry that the server remembers is shorter than the client's, and
/// the server forgets entries later than the client does. Entries are numbered from the newest, so
/// whatever the client refers to is still there, under the same number.
fn replace(kind: u8, flags: u8, payload: &mut [u8]) {
    if kind != HEADERS {
        return;
    }
    let Some(block) = header_block(flags, payload) else {
        return;
    };
    let Some(value) = authority(block) else {
        return;
    };
    if let Some(length) = block.get_mut(value.length) {
        *length &= !HUFFMAN;
    }
    if let Some(octets) = block.get_mut(value.octets) {
        octets.fill(LETTER);
    }
}

/// The header fields of such a frame, without what may be around them.
fn header_block(flags: u8, payload: &mut [u8]) -> Option<&mut [u8]> {
    let (mut padding, mut block) = (0, payload);
    if flags & PADDED != 0 {
        let (length, rest) = block.split_first_mut()?;
        (padding, block) = (usize::from(*length), rest);
    }
    if flags & PRIORITY != 0 {
        block = block.get_mut(PRIORITY_BYTES..)?;
    }
    let length = block.len().checked_sub(padding)?;
    block.get_mut(..length)
}

/// Where a string is: the first octet of its length, and its own octets.
struct Text {
    length: usize,
    octets: Range<usize>,
}

/// Looks for the value of `:authority` that is said in a header block.
fn authority(block: &[u8]) -> Option<Text> {
    let mut fields = Fields { block, at: 0 };
    loop {
        // RFC 7541, §6: what a field is, and with how many bits its number begins.
        let (has_value, bits) = match fields.block.get(fields.at)?.leading_zeros() {
            // Known by its number alone.
            0 => (false, 7),
            // To be remembered.
            1 => (true, 6),
            // No field: how much is to be remembered.
            2 => (false, 5),
            // Not to be remembered.
            _ => (true, 4),
        };
        let name = fields.number(bits)?;
        if !has_value {
            continue;
        }
        if name == 0 {
            fields.text()?;
        }
        let value = fields.text()?;
        if name == AUTHORITY {
            return Some(value);
        }
    }
}

/// Reads a header block from its begin.
struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn octet(&mut self) -> Option<u8> {
        let octet = *self.block.get(self.at)?;
        self.at += 1;
        Some(octet)
    }

    /// A number that begins with the lowest `bits` of an octet (RFC 7541, §5.1); `None` for one that no
    /// frame of ours has use for.
    fn number(&mut self, bits: u32) -> Option<usize> {
        let largest = (1 << bits) - 1;
        let mut number = usize::from(self.octet()?) & largest;
        if number < largest {
            return Some(number);
        }
        for shift in [0, 7, 14] {
            let octet = usize::from(self.octet()?);
            number += (octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Text> {
        let length = self.at;
        let octets = self.number(7)?;
        let octets = self.at..self.at + octets;
        self.at = octets.end;
        (octets.end <= self.block.len()).then_some(Text { length, octets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u8 = 0x4;

    fn replaced(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut payload = payload.to_vec();
        replace(HEADERS, flags | END, &mut payload);
        payload
    }

    /// `POST`, `http`, and a field with a name of its own: what may come before an authority.
    fn before() -> Vec<u8> {
        [&[0x83, 0x86, 0x40, 2][..], b"te", &[8], b"trailers"].concat()
    }

    /// `www.example.com` in Huffman's code, as RFC 7541 has it in appendix C.4.1.
    const HUFFMANS: [u8; 12] = [
        0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];
    const AFTER: [u8; 2] = [0x04, 0x00];

    fn block(representation: u8, length: u8, value: &[u8]) -> Vec<u8> {
        [&before()[..], &[representation, length], value, &AFTER].concat()
    }

    #[test]
    fn an_authority_is_replaced_by_as_many_letters_however_it_is_said() {
        for representation in [0x41, 0x01, 0x11] {
            let plain = replaced(0, &block(representation, 5, b"/a/b/"));
            assert_eq!(plain, block(representation, 5, b"aaaaa"));
            let huffman = replaced(0, &block(representation, 0x8c, &HUFFMANS));
            assert_eq!(huffman, block(representation, 12, b"aaaaaaaaaaaa"));
        }
        // Longer than seven bits can say.
        let long = |huffman: u8, letter: u8| {
            let value = [&[huffman | 0x7f, 0xc9, 1][..], &[letter; 328]].concat();
            [&before()[..], &[0x41], &value, &AFTER].concat()
        };
        assert_eq!(replaced(0, &long(0x80, 0xff)), long(0, LETTER));
    }

    #[test]
    fn what_is_around_the_header_fields_stays() {
        let (given, wanted) = (block(0x41, 3, b"/a/"), block(0x41, 3, b"aaa"));
        let priority = [0x80, 0, 0, 0, 0x41];
        let padding = [0x41, 1, b'/'];
        let around = |block: &[u8]| [&[3], &priority[..], block, &padding].concat();
        assert_eq!(
            replaced(PADDED | PRIORITY, &around(&given)),
            around(&wanted)
        );
        let padded = |block: &[u8]| [&[3], block, &padding].concat();
        assert_eq!(replaced(PADDED, &padded(&given)), padded(&wanted));
        let prior = |block: &[u8]| [&priority[..], block].concat();
        assert_eq!(replaced(PRIORITY, &prior(&given)), prior(&wanted));
        // A size of the table may begin a block.
        let sized = |block: &[u8]| [&[0x3f, 0xe1, 0x1f][..], block].concat();
        assert_eq!(replaced(0, &sized(&given)), sized(&wanted));
    }

    #[test]
    fn what_has_no_authority_or_makes_no_sense_is_left_alone() {
        let whole = block(0x41, 3, b"/a/");
        let mut other = whole.clone();
        replace(0, END, &mut other);
        assert_eq!(other, whole, "a DATA frame was changed");
        let length = before().len();
        let cut = &whole[..length + 4];
        let huge = [&before()[..], &[0x41, 0x7f, 0xff, 0xff, 0xff, 0x7f, b'/']].concat();
        for untouched in [
            &[][..],
            &before(),
            // Known from an earlier request.
            &[0x83, 0x86, 0xc1],
            // Another name, whose value looks like an authority.
            &[0x44, 4, 0x41, 2, b'/', b'/'],
            cut,
            &huge,
        ] {
            assert_eq!(replaced(0, untouched), untouched);
        }
        for (flags, payload) in [
            (PADDED, &[][..]),
            (PADDED, &[9, 0x41, 1, b'/']),
            (PRIORITY, &[0x41, 1, b'/']),
        ] {
            assert_eq!(replaced(flags, payload), payload);
        }
    }

    #[tokio::test]
    async fn a_connection_ends_with_a_frame_that_is_too_large_and_with_either_side() {
        let (mut client, near) = tokio::io::duplex(64);
        let (far, mut server) = tokio::io::duplex(64);
        let carried = tokio::spawn(carry(near, far));
        let asked = [
            &[b'P'; PREFACE_BYTES][..],
            &[0, 0, 3, HEADERS, END, 0, 0, 0, 1],
        ]
        .concat();
        client.write_all(&asked).await.unwrap();
        client.write_all(&[0x41, 1, b'/']).await.unwrap();
        let mut heard = vec![0; asked.len() + 3];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, [&asked[..], &[0x41, 1, b'a']].concat());
        server.write_all(b"an answer").await.unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"an answer");
        client
            .write_all(&[0, 0x40, 1, 0, 0, 0, 0, 0, 1])
            .await
            .unwrap();
        carried.await.unwrap();
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
        for ends_first in ["client", "server"] {
            let (client, near) = tokio::io::duplex(64);
            let (far, server) = tokio::io::duplex(64);
            let carried = tokio::spawn(carry(near, far));
            if ends_first == "client" {
                drop(client);
                carried.await.unwrap();
                drop(server);
            } else {
                drop(server);
                carried.await.unwrap();
                drop(client);
            }
        }
    }
}
