//! How a kubelet finds the CSI driver: the bytes of its own client, which name the socket's path as
//! authority.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tests::kubelet::Kubelet;
use tests::node::Node;
use tests::wait;

const DEADLINE: Duration = Duration::from_secs(20);
/// How a client of HTTP/2 begins (RFC 9113, §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `/var/lib/kubelet/plugins_registry/csi.caios.coreweave.com-reg.sock` in Huffman's code, in which
/// grpc-go says whatever becomes shorter by it.
const PATH: &str = "63b8ec628346c75b632d054b15d16cc6a91158598c84d9e98220cb90663a1721ec2f828fb95721e95ac2ccba0e4ebf";
/// The same with `%2F` for a slash, as later versions of grpc-go say it.
const ESCAPED: &str = "54587b8ec545868346a8b0f5b632d054aa2c35d16cc6a91158598c84d9e95161220cb90663a1721ec2f828fb95721e95ac2ccba0e4eb";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
/// Flags of a frame: the last one of its stream, the last of its headers.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn octets(hexadecimal: &str) -> Vec<u8> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    let octet = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(octet).collect()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// A string of a header field (RFC 7541, §5.2).
fn text(text: &[u8], huffman: u8) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 0x7f);
    [&[length | huffman], text].concat()
}

/// A call of a method: headers, and a message.
fn call(stream: u32, headers: &[u8], message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&[0], &length[..], message].concat();
    let headers = frame(HEADERS, END_HEADERS, stream, headers);
    headers
        .into_iter()
        .chain(frame(DATA, END_STREAM, stream, &message))
        .collect()
}

/// Reads what comes back on a stream until it ends: the kinds of the frames, and what is in those of
/// data.
fn answer(connection: &mut UnixStream, stream: u32) -> (Vec<u8>, Vec<u8>) {
    let (mut kinds, mut data) = (Vec::new(), Vec::new());
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).unwrap();
        let [high, middle, low, kind, flags, of @ ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        connection.read_exact(&mut payload).unwrap();
        if u32::from_be_bytes(of) != stream {
            continue;
        }
        kinds.push(kind);
        if kind == DATA {
            data.extend(payload);
        }
        if kind == RESET || flags & END_STREAM != 0 {
            return (kinds, data);
        }
    }
}

#[test]
fn a_kubelet_whose_client_names_the_sockets_path_registers_the_driver() {
    let node = Node::new().unwrap();
    let kubelet = Kubelet::new(&node).unwrap();
    let driver = kubelet.driver().unwrap();
    let told = "the kubelet has registered the driver";
    for (authority, times) in [(PATH, 1), (ESCAPED, 2)] {
        let authority = octets(authority);
        // `POST`, `http`, path, authority, and two more; what is said in full is remembered.
        let first = [
            &[0x83, 0x86, 0x44][..],
            &text(b"/pluginregistration.Registration/GetInfo", 0),
            &[0x41],
            &text(&authority, 0x80),
            &[0x5f],
            &text(b"application/grpc", 0),
            &[0x40],
            &text(b"te", 0),
            &text(b"trailers", 0),
        ]
        .concat();
        // The same but for the path: by their numbers, which count from what was said last.
        let second = [
            &[0x83, 0x86, 0x44][..],
            &text(
                b"/pluginregistration.Registration/NotifyRegistrationStatus",
                0,
            ),
            &[0xc1, 0xc0, 0xbf],
        ]
        .concat();
        let mut connection = UnixStream::connect(kubelet.registration()).unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        connection.write_all(PREFACE).unwrap();
        connection.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        connection.write_all(&call(1, &first, &[])).unwrap();
        let (kinds, data) = answer(&mut connection, 1);
        let said = String::from_utf8_lossy(&data);
        assert_eq!(kinds, [HEADERS, DATA, HEADERS], "{}", driver.log());
        assert!(said.contains("CSIPlugin"), "{said}");
        // `plugin_registered: true`.
        connection.write_all(&call(3, &second, &[8, 1])).unwrap();
        let (kinds, _) = answer(&mut connection, 3);
        assert_eq!(kinds.first(), Some(&HEADERS), "{}", driver.log());
        wait::until("the driver is told", DEADLINE, || {
            driver.log().matches(told).count() == times
        })
        .unwrap();
    }
}
