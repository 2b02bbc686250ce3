//! A resolver for Pods: it knows the names that it was given, and every name below them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::Context as _;
use tokio::net::UdpSocket;

/// Questions of one name, address of IPv4, class Internet (RFC 1035, §3.2).
const A: u16 = 1;
const NO_SUCH_NAME: u8 = 3;

/// Answers at port 53 of `address`, as long as the runtime runs.
///
/// # Errors
/// When the port is taken.
pub(super) async fn serve(
    address: Ipv4Addr,
    names: BTreeMap<String, Ipv4Addr>,
) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((address, 53))
        .await
        .context("failed to serve names")?;
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let question = buffer.get(..length).unwrap_or_default();
            if let Some(answer) = answer(question, &names) {
                let _ = socket.send_to(&answer, client).await;
            }
        }
    });
    Ok(())
}

/// The answer to a message with one question; `None` for any other.
fn answer(message: &[u8], names: &BTreeMap<String, Ipv4Addr>) -> Option<Vec<u8>> {
    let (head, mut rest) = message.split_at_checked(12)?;
    let mut labels = Vec::new();
    let mut length = 12;
    loop {
        let (size, after) = rest.split_first()?;
        let (label, after) = after.split_at_checked(usize::from(*size))?;
        length += 1 + label.len();
        rest = after;
        if label.is_empty() {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    let question = message.get(12..length + 4)?;
    let known = (0..labels.len()).find_map(|first| {
        let name = labels.get(first..)?.join(".");
        names.get(&name).copied()
    });
    let address = known.filter(|_| kind == A);
    let code = if known.is_some() { 0 } else { NO_SUCH_NAME };
    let mut answer = head.get(..2)?.to_vec();
    // A response, by authority, recursion as asked for and available.
    answer.extend([0x84 | (head.get(2)? & 1), 0x80 | code]);
    answer.extend([0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    answer.extend(question);
    if let Some(address) = address {
        // The name of the question, A, Internet, for 5 s, 4 bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
