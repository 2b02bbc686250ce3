//! The messages between an agent and its keeper, and between a keeper and its successor.
//!
//! One message is one packet of an `AF_UNIX`, `SOCK_SEQPACKET` socket. Its first byte says what it
//! is. A packet of an unknown kind is skipped, and so is what follows the fields of a known one: so
//! a newer version may add to both. [`VERSION`] changes only when an older side could do harm.
//!
//! Whoever connects says [`Hello`](Message::Hello) and is told [`Welcome`](Message::Welcome). Then
//! the keeper sends all that it holds and [`Complete`](Message::Complete), and from there on both
//! sides tell each other what changes.

use std::fmt;

/// How every connection begins.
pub const MAGIC: [u8; 7] = *b"caios-k";

/// The version of this protocol.
pub const VERSION: u8 = 1;

/// The longest name of a listener: the uid of its Pod.
pub const MAX_KEY_BYTES: usize = 128;

/// The most that may be said about a listener.
pub const MAX_ABOUT_BYTES: usize = 4096;

/// The longest name of an instance: the uid of an agent's Pod.
pub const MAX_INSTANCE_BYTES: usize = 128;

/// The most descriptors that come with one message: `127.0.0.1` and `[::1]` of one Pod.
pub const MAX_DESCRIPTORS: usize = 2;

/// The longest packet.
pub const MAX_PACKET_BYTES: usize = 2 + MAX_KEY_BYTES + MAX_ABOUT_BYTES;

/// Who connects to a keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The agent of the keeper's own Pod.
    Agent,
    /// The keeper of another agent's Pod.
    Keeper,
}

/// How a keeper receives who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that is held follows.
    Accepted,
    /// This is another Pod's keeper; the agent's own will take its place in a moment.
    Elsewhere,
    /// This is the keeper of the Pod that has taken the other's place.
    Superseded,
    /// The other's version is not spoken here.
    Version,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Who connects, from which Pod.
    Hello {
        /// The version that it speaks.
        version: u8,
        /// What it is.
        role: Role,
        /// Its Pod.
        instance: &'a str,
    },
    /// The answer.
    Welcome {
        /// The version that is spoken here.
        version: u8,
        /// Whether the connection goes on.
        verdict: Verdict,
        /// The keeper's Pod.
        instance: &'a str,
    },
    /// A Pod's listener is to be held; one or two descriptors come with it. It takes the place of
    /// an earlier one of the same key.
    Listener {
        /// The Pod's uid.
        key: &'a [u8],
        /// What the agent must know to serve it. Opaque to the keeper.
        about: &'a [u8],
    },
    /// A Pod's listener has ended.
    Gone {
        /// The Pod's uid.
        key: &'a [u8],
    },
    /// A snapshot; one descriptor comes with it. It takes the place of an earlier one of the same
    /// instance.
    Snapshot {
        /// Whose cache it is.
        instance: &'a str,
    },
    /// Where an agent holds connections that it is answering: what it sends takes the place of what it
    /// sent before, and goes to the agent that comes after it has died. At most two descriptors; none from a keeper that holds none.
    Unanswered,
    /// All that was held when the connection began has been sent.
    Complete,
    /// From an agent to its keeper, and on to the keeper before: the agent serves all listeners, or
    /// does so no longer.
    Serving(bool),
    /// To an agent: the agent of a Pod that takes this one's place serves all listeners, or does so
    /// no longer.
    Superseded(bool),
    /// From an agent: it ends for good, and waits for no successor.
    Leaving,
    /// Something that a newer version says.
    Unknown,
}

/// A packet that is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a packet makes no sense")
    }
}

impl std::error::Error for Malformed {}

impl<'a> Message<'a> {
    /// Renders the packet.
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Hello {
                version,
                role,
                instance,
            } => {
                let role = match role {
                    Role::Agent => b'a',
                    Role::Keeper => b'k',
                };
                let fields = [b"H", &MAGIC[..], &[version, role], instance.as_bytes()];
                fields.concat()
            }
            Self::Welcome {
                version,
                verdict,
                instance,
            } => {
                let verdict = match verdict {
                    Verdict::Accepted => b'y',
                    Verdict::Elsewhere => b'e',
                    Verdict::Superseded => b's',
                    Verdict::Version => b'v',
                };
                [b"W", &[version, verdict][..], instance.as_bytes()].concat()
            }
            Self::Listener { key, about } => {
                let length = u8::try_from(key.len()).unwrap_or(u8::MAX);
                [b"L", &[length][..], key, about].concat()
            }
            Self::Gone { key } => [b"G", key].concat(),
            Self::Snapshot { instance } => [b"S", instance.as_bytes()].concat(),
            Self::Unanswered => b"U".to_vec(),
            Self::Complete => b"C".to_vec(),
            Self::Serving(now) => vec![b'R', now.into()],
            Self::Superseded(now) => vec![b'P', now.into()],
            Self::Leaving => b"E".to_vec(),
            Self::Unknown => b"?".to_vec(),
        }
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// [`Malformed`] for an empty packet, and for fields that are cut or too long.
    pub fn decode(packet: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, rest) = packet.split_first().ok_or(Malformed)?;
        Ok(match kind {
            b'H' => {
                let rest = rest.strip_prefix(MAGIC.as_slice()).ok_or(Malformed)?;
                let ([version, role], name) = rest.split_first_chunk().ok_or(Malformed)?;
                let role = match role {
                    b'a' => Role::Agent,
                    b'k' => Role::Keeper,
                    _ => return Err(Malformed),
                };
                Self::Hello {
                    version: *version,
                    role,
                    instance: instance(name)?,
                }
            }
            b'W' => {
                let ([version, verdict], name) = rest.split_first_chunk().ok_or(Malformed)?;
                let verdict = match verdict {
                    b'y' => Verdict::Accepted,
                    b'e' => Verdict::Elsewhere,
                    b's' => Verdict::Superseded,
                    _ => Verdict::Version,
                };
                Self::Welcome {
                    version: *version,
                    verdict,
                    instance: instance(name)?,
                }
            }
            b'L' => {
                let (length, rest) = rest.split_first().ok_or(Malformed)?;
                let (name, about) = rest
                    .split_at_checked(usize::from(*length))
                    .ok_or(Malformed)?;
                if about.len() > MAX_ABOUT_BYTES {
                    return Err(Malformed);
                }
                let key = key(name)?;
                Self::Listener { key, about }
            }
            b'G' => Self::Gone { key: key(rest)? },
            b'S' => Self::Snapshot {
                instance: instance(rest)?,
            },
            b'U' => Self::Unanswered,
            b'C' => Self::Complete,
            b'R' => Self::Serving(flag(rest)?),
            b'P' => Self::Superseded(flag(rest)?),
            b'E' => Self::Leaving,
            _ => Self::Unknown,
        })
    }
}

fn key(bytes: &[u8]) -> Result<&[u8], Malformed> {
    if bytes.is_empty() || bytes.len() > MAX_KEY_BYTES {
        return Err(Malformed);
    }
    Ok(bytes)
}

fn instance(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.is_empty() || bytes.len() > MAX_INSTANCE_BYTES {
        return Err(Malformed);
    }
    str::from_utf8(bytes).map_err(|_| Malformed)
}

fn flag(bytes: &[u8]) -> Result<bool, Malformed> {
    bytes.first().map(|byte| *byte != 0).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: [Message<'_>; 13] = [
        Message::Hello {
            version: VERSION,
            role: Role::Agent,
            instance: "pod-1",
        },
        Message::Hello {
            version: 7,
            role: Role::Keeper,
            instance: "pod-2",
        },
        Message::Welcome {
            version: VERSION,
            verdict: Verdict::Accepted,
            instance: "pod-1",
        },
        Message::Welcome {
            version: VERSION,
            verdict: Verdict::Superseded,
            instance: "pod-1",
        },
        Message::Listener {
            key: b"uid",
            about: b"{}",
        },
        Message::Gone { key: b"uid" },
        Message::Snapshot { instance: "pod-1" },
        Message::Unanswered,
        Message::Complete,
        Message::Serving(true),
        Message::Superseded(false),
        Message::Leaving,
        Message::Unknown,
    ];

    #[test]
    fn every_message_is_read_as_it_was_written() {
        for message in MESSAGES {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn what_a_newer_version_adds_is_skipped() {
        assert_eq!(Message::decode(b"X and more"), Ok(Message::Unknown));
        for message in [Message::Complete, Message::Serving(true), Message::Leaving] {
            let longer = [&message.encode()[..], b"more"].concat();
            assert_eq!(Message::decode(&longer), Ok(message));
        }
    }

    #[test]
    fn no_cut_or_oversized_packet_is_taken_for_a_message() {
        let long = "x".repeat(MAX_INSTANCE_BYTES + 1);
        let much = vec![b'x'; MAX_ABOUT_BYTES + 1];
        for packet in [
            Vec::new(),
            b"H".to_vec(),
            b"Hcaios-x\x01aname".to_vec(),
            b"Hcaios-k\x01zname".to_vec(),
            b"Hcaios-k\x01a".to_vec(),
            b"W\x01".to_vec(),
            b"L".to_vec(),
            b"L\x05uid".to_vec(),
            b"L\x00about".to_vec(),
            b"G".to_vec(),
            b"S".to_vec(),
            b"S\xff".to_vec(),
            b"R".to_vec(),
            Message::Snapshot { instance: &long }.encode(),
            Message::Listener {
                key: b"uid",
                about: &much,
            }
            .encode(),
            Message::Gone {
                key: long.as_bytes(),
            }
            .encode(),
        ] {
            assert_eq!(Message::decode(&packet), Err(Malformed), "{packet:?}");
        }
    }
}
