//! The messages between the driver and an agent, over `csi.sock` in the private directory.
//!
//! One message is one packet of an `AF_UNIX`, `SOCK_SEQPACKET` socket. Both sides hold copies of every
//! volume's listening sockets: whoever connects or is connected to is told of those that it lacks, so
//! that either may die. The driver says [`Hello`](Message::Hello); the agent sends what it holds and
//! [`Complete`](Message::Complete).

use shared::contract::MAX_TOKEN_BYTES;
use shared::socket::File;
use zeroize::Zeroizing;

use super::decide::Place;
use crate::workload::PodUid;

/// How every connection begins.
const MAGIC: &[u8] = b"caios-c";
/// The version of this protocol.
const VERSION: u8 = 1;
/// The longest text that an answer has, in bytes.
const MAX_TEXT_BYTES: usize = 2048;
/// The longest packet: a token, and a little beside it.
pub(crate) const MAX_PACKET_BYTES: usize = MAX_TOKEN_BYTES + 1024;

/// What the sockets of a volume are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct About {
    /// Where they are.
    pub(crate) place: Place,
    /// Which file the first of them is.
    pub(crate) file: File,
}

/// How an agent answers a [`Take`](Message::Take).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The sockets are served.
    Taken,
    /// The token is not that of the Pod, or CoreWeave refuses a Pod that waits for credentials.
    Refused,
    /// Not now.
    Busy,
}

/// One message.
#[derive(PartialEq, Eq)]
pub(crate) enum Message {
    /// From a driver: who connects.
    Hello,
    /// From a driver: a volume is published, its sockets come along.
    Take {
        /// The volume.
        volume: String,
        /// What its sockets are.
        about: About,
        /// Whether to answer when credentials are there.
        wait: bool,
        /// The Pod's token, not yet verified.
        token: Zeroizing<Vec<u8>>,
    },
    /// From a driver: a newer token of a volume's Pod.
    Refresh {
        /// The volume.
        volume: String,
        /// The token, not yet verified.
        token: Zeroizing<Vec<u8>>,
    },
    /// From either side: a volume that was published before; its sockets come along.
    Hold {
        /// The volume.
        volume: String,
        /// What its sockets are.
        about: About,
    },
    /// From an agent: it has sent all that it holds.
    Complete,
    /// From an agent.
    Answer {
        /// The volume of the [`Take`](Message::Take).
        volume: String,
        /// How it ended.
        verdict: Verdict,
        /// Why, where it was not taken; no secret.
        text: String,
    },
    /// From a driver: a volume's sockets are no more.
    Gone {
        /// The volume.
        volume: String,
        /// Whether its Pod has ended too.
        ended: bool,
    },
    /// Something that a newer version says.
    Unknown,
}

/// A packet that is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet makes no sense")]
pub(crate) struct Malformed;

impl Message {
    /// Renders the packet.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Whole from the start: growing would leave copies of the token behind.
        let mut packet = Zeroizing::new(Vec::with_capacity(MAX_PACKET_BYTES));
        let mut put = |kind: u8, flag: u8, fields: &[&[u8]], rest: &[u8]| {
            packet.extend_from_slice(&[kind, flag]);
            for field in fields {
                let length = u8::try_from(field.len()).unwrap_or(u8::MAX);
                packet.push(length);
                packet.extend_from_slice(field.get(..length.into()).unwrap_or(field));
            }
            packet.extend_from_slice(rest);
        };
        match self {
            Self::Hello => put(b'H', VERSION, &[], MAGIC),
            Self::Take {
                volume,
                about,
                wait,
                token,
            } => {
                let file = about.file();
                let Place { pod, name } = &about.place;
                let fields = [volume.as_bytes(), pod.as_bytes(), name.as_bytes(), &file];
                put(b'T', (*wait).into(), &fields, token);
            }
            Self::Hold { volume, about } => {
                let file = about.file();
                let Place { pod, name } = &about.place;
                let fields = [volume.as_bytes(), pod.as_bytes(), name.as_bytes(), &file];
                put(b'L', 0, &fields, b"");
            }
            Self::Refresh { volume, token } => put(b'R', 0, &[volume.as_bytes()], token),
            Self::Complete => put(b'C', 0, &[], b""),
            Self::Answer {
                volume,
                verdict,
                text,
            } => {
                let verdict = match verdict {
                    Verdict::Taken => b'y',
                    Verdict::Refused => b'n',
                    Verdict::Busy => b'b',
                };
                let text = text.get(..text.floor_char_boundary(MAX_TEXT_BYTES));
                let text = text.unwrap_or_default().as_bytes();
                put(b'A', verdict, &[volume.as_bytes()], text);
            }
            Self::Gone { volume, ended } => {
                put(b'G', (*ended).into(), &[volume.as_bytes()], b"");
            }
            Self::Unknown => put(b'?', 0, &[], b""),
        }
        packet
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// [`Malformed`] for fields that are cut or make no sense, and for another version.
    pub(crate) fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        let ([kind, flag], mut rest) = packet.split_first_chunk().ok_or(Malformed)?;
        let rest = &mut rest;
        Ok(match kind {
            b'H' if *flag == VERSION && *rest == MAGIC => Self::Hello,
            b'H' => return Err(Malformed),
            b'T' => Self::Take {
                volume: text(rest)?,
                about: About::read(rest)?,
                wait: *flag != 0,
                token: token(rest)?,
            },
            b'L' => Self::Hold {
                volume: text(rest)?,
                about: About::read(rest)?,
            },
            b'R' => Self::Refresh {
                volume: text(rest)?,
                token: token(rest)?,
            },
            b'C' => Self::Complete,
            b'A' => Self::Answer {
                verdict: match flag {
                    b'y' => Verdict::Taken,
                    b'n' => Verdict::Refused,
                    _ => Verdict::Busy,
                },
                volume: text(rest)?,
                text: String::from_utf8(rest.to_vec()).map_err(|_| Malformed)?,
            },
            b'G' => Self::Gone {
                volume: text(rest)?,
                ended: *flag != 0,
            },
            _ => Self::Unknown,
        })
    }
}

impl About {
    /// The Pod whose volume it is.
    pub(crate) fn pod(&self) -> PodUid {
        PodUid::new(&self.place.pod)
    }

    fn file(&self) -> [u8; 16] {
        let mut file = [0; 16];
        let (device, inode) = file.split_at_mut(8);
        device.copy_from_slice(&self.file.device.to_be_bytes());
        inode.copy_from_slice(&self.file.inode.to_be_bytes());
        file
    }

    fn read(rest: &mut &[u8]) -> Result<Self, Malformed> {
        let place = Place {
            pod: text(rest)?,
            name: text(rest)?,
        };
        let (device, inode) = field(rest)?.split_first_chunk().ok_or(Malformed)?;
        let inode = inode.try_into().map_err(|_| Malformed)?;
        Ok(Self {
            place,
            file: File {
                device: u64::from_be_bytes(*device),
                inode: u64::from_be_bytes(inode),
            },
        })
    }
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let (length, after) = rest.split_first().ok_or(Malformed)?;
    let (field, after) = after
        .split_at_checked(usize::from(*length))
        .ok_or(Malformed)?;
    *rest = after;
    Ok(field)
}

fn text(rest: &mut &[u8]) -> Result<String, Malformed> {
    let text = str::from_utf8(field(rest)?).map_err(|_| Malformed)?;
    if text.is_empty() {
        return Err(Malformed);
    }
    Ok(text.to_owned())
}

fn token(rest: &[u8]) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    if rest.is_empty() || rest.len() > MAX_TOKEN_BYTES {
        return Err(Malformed);
    }
    Ok(Zeroizing::new(rest.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Message> {
        let volume = "csi-1".to_owned();
        let token = Zeroizing::new(b"token".to_vec());
        let about = About {
            place: Place {
                pod: "uid".to_owned(),
                name: "caios-agent".to_owned(),
            },
            file: File {
                device: 2,
                inode: u64::MAX,
            },
        };
        vec![
            Message::Hello,
            Message::Take {
                volume: volume.clone(),
                about: about.clone(),
                wait: true,
                token: token.clone(),
            },
            Message::Refresh {
                volume: volume.clone(),
                token,
            },
            Message::Hold {
                volume: volume.clone(),
                about,
            },
            Message::Complete,
            Message::Answer {
                volume: volume.clone(),
                verdict: Verdict::Refused,
                text: "why".to_owned(),
            },
            Message::Gone {
                volume,
                ended: true,
            },
            Message::Unknown,
        ]
    }

    #[test]
    fn every_message_is_read_as_it_was_written_and_none_that_is_cut_within_its_fields() {
        for message in messages() {
            let packet = message.encode();
            assert!(packet.len() <= MAX_PACKET_BYTES);
            assert!(Message::decode(&packet) == Ok(message), "{packet:?}");
        }
        for message in messages().iter().skip(1).take(3) {
            let packet = message.encode();
            // Up to the end of the volume, behind which some have a token.
            for length in 0..=8 {
                assert!(
                    Message::decode(&packet[..length]).is_err(),
                    "{packet:?} {length}"
                );
            }
        }
        assert!(Message::decode(b"H\x02caios-c").is_err());
        assert!(Message::decode(b"Xy and more") == Ok(Message::Unknown));
    }
}
