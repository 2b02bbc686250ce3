//! What `caios-agent reattach` and an agent tell each other, over `reattach.sock` in the private
//! directory: one message is one packet of an `AF_UNIX`, `SOCK_SEQPACKET` socket, as JSON.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The longest packet, in bytes: some hundreds of Pods.
pub(crate) const MAX_PACKET_BYTES: usize = 128 * 1024;
/// The most Pods of one answer; others come with the next.
pub(crate) const MAX_PODS: usize = 256;

/// One message.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// To the agent: who has lost a listener?
    Ask,
    /// From it: these.
    Lost(Vec<Wanted>),
    /// To it: listeners for the Pod of this uid, which come along.
    Found(String),
    /// From it: they are served.
    Served,
    /// From it: they are not, for this reason.
    Refused(String),
}

/// A Pod that has lost its listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Its uid.
    pub(crate) uid: String,
    /// The addresses by which its network namespace is known.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where its listener is to be.
    pub(crate) port: u16,
}

impl Message {
    /// As a packet.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Strings and numbers: nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a packet; `None` for one that makes no sense.
    pub(crate) fn decode(packet: &[u8]) -> Option<Self> {
        serde_json::from_slice(packet).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_pods_as_an_answer_may_have_fit_into_a_packet() {
        let pod = Wanted {
            uid: "00000000-0000-4000-8000-000000000001".to_owned(),
            addresses: vec![
                "255.255.255.255".parse().unwrap(),
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0".parse().unwrap(),
            ],
            port: u16::MAX,
        };
        let message = Message::Lost(vec![pod; MAX_PODS]);
        let packet = message.encode();
        assert!(packet.len() <= MAX_PACKET_BYTES, "{}", packet.len());
        assert_eq!(Message::decode(&packet), Some(message));
        assert_eq!(Message::decode(b"{\"found\":7}"), None);
    }
}
