//! A Pod for tests: a thread in a network namespace of its own, and the client's side of the
//! protocol.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketType,
};
use shared::enrolment::{MAX_REPLY_BYTES, Status, header, parse_reply};

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace with loopback, as long as this lives.
pub(super) struct PodNamespace(mpsc::SyncSender<Work>);

impl PodNamespace {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::sync_channel::<Work>(1);
        thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("network namespaces need root, or `unshare -Ur cargo test`");
            for work in receiver {
                work();
            }
        });
        let pod = Self(sender);
        // RTM_NEWLINK (16) for interface 1, lo: flags and change mask are both IFF_UP.
        pod.run(|| netlink(16, 0, &link(1, 1)));
        pod
    }

    /// Runs `work` in the namespace.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::sync_channel(1);
        let work = move || drop(sender.send(work()));
        self.0.send(Box::new(work)).unwrap();
        receiver.recv().unwrap()
    }

    /// A listener on loopback with a connection that waits on it.
    pub(super) fn loopback(&self) -> (TcpListener, TcpStream) {
        self.loopback_at(0)
    }

    /// The same on `port`.
    pub(super) fn loopback_at(&self, port: u16) -> (TcpListener, TcpStream) {
        self.run(move || {
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (listener, connection)
        })
    }

    /// What is sent to a connection to `port`.
    pub(super) fn read(&self, port: u16) -> String {
        self.run(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            stream.write_all(b"?").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
    }

    /// Waits until nothing listens on `port`.
    pub(super) fn until_refused(&self, port: u16) {
        self.run(move || {
            for _ in 0..100_000 {
                if TcpStream::connect(("127.0.0.1", port)).is_err() {
                    return;
                }
                thread::yield_now();
            }
            panic!("port {port} is still listened on");
        });
    }

    /// Makes a pair of virtual interfaces, one of which is `name` and has `address`.
    pub(super) fn add_interface(&self, name: &'static str, address: Option<Ipv4Addr>) {
        let mut message = link(0, 0);
        message.extend(attribute(3, &[name.as_bytes(), b"\0"].concat()));
        // IFLA_LINKINFO (18) with IFLA_INFO_KIND (1).
        message.extend(attribute(18, &attribute(1, b"veth")));
        self.run(move || {
            // NLM_F_CREATE | NLM_F_EXCL.
            netlink(16, 0x600, &message);
            if let Some(address) = address {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                let index = rustix::net::netdevice::name_to_index(&socket, name).unwrap();
                // `struct ifaddrmsg`: AF_INET, a prefix of 24 bits. IFA_LOCAL (2).
                let mut message = vec![2, 24, 0, 0];
                message.extend(index.to_ne_bytes());
                message.extend(attribute(2, &address.octets()));
                // RTM_NEWADDR.
                netlink(20, 0x600, &message);
            }
        });
    }

    pub(super) fn remove_interface(&self, name: &'static str) {
        let mut message = link(0, 0);
        message.extend(attribute(3, &[name.as_bytes(), b"\0"].concat()));
        // RTM_DELLINK.
        self.run(move || netlink(17, 0, &message));
    }
}

/// A `struct ifinfomsg` (rtnetlink(7)).
fn link(index: i32, flags: u32) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(index.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message
}

/// A `struct rtattr` with its padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Asks the kernel for one change and waits for its acknowledgement.
fn netlink(kind: u16, flags: u16, body: &[u8]) {
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0)).unwrap();
    let mut message = u32::try_from(body.len() + 16)
        .unwrap()
        .to_ne_bytes()
        .to_vec();
    message.extend(kind.to_ne_bytes());
    // NLM_F_REQUEST | NLM_F_ACK.
    message.extend((flags | 5).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    rustix::net::send(&socket, &message, SendFlags::empty()).unwrap();
    let mut answer = [0u8; 4096];
    rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).unwrap();
    let code = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
    assert_eq!(code, 0, "netlink request {kind} failed");
}

pub(super) fn dial(path: &Path) -> OwnedFd {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(10))).unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

/// Sends a request with `descriptors`, however many.
pub(super) fn send(path: &Path, port: u16, token: &str, descriptors: &[BorrowedFd<'_>]) -> OwnedFd {
    let socket = dial(path);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let header = header(port);
    let parts = [IoSlice::new(&header), IoSlice::new(token.as_bytes())];
    rustix::net::sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL).unwrap();
    socket
}

pub(super) fn reply(socket: &OwnedFd) -> (Status, String) {
    let mut packet = [0u8; MAX_REPLY_BYTES];
    let (length, _) = rustix::net::recv(socket, &mut packet[..], RecvFlags::empty()).unwrap();
    let (status, message) = parse_reply(&packet[..length]).expect("a reply");
    (status, String::from_utf8(message.to_vec()).unwrap())
}
