//! `caios-enroll` against a scripted agent: the ordinary build, and the one that is shipped.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends where its setting is broken"
)]

use std::io::{BufRead as _, BufReader, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketType,
};
use shared::enrolment::{MAX_REQUEST_BYTES, Status, parse_request};

const TOKEN: &str = "canary-token";
/// The most that the shipped binary may weigh, in bytes.
const MAX_SHIPPED_BYTES: u64 = 65_536;

/// Both builds; the shipped one is made when first asked for.
fn binaries() -> [&'static Path; 2] {
    static SHIPPED: OnceLock<PathBuf> = OnceLock::new();
    let usual = Path::new(env!("CARGO_BIN_EXE_caios-enroll"));
    let shipped = SHIPPED.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--package",
                "enroll",
                "--profile",
                "tiny",
                "--no-default-features",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.expect("cargo runs").success(), "the shipped build");
        let profiles = usual.parent().and_then(Path::parent);
        profiles
            .expect("a target directory")
            .join("tiny/caios-enroll")
    });
    [usual, shipped]
}

/// A directory with a token file and a place for a socket, gone at the end.
struct Node(PathBuf);

impl Node {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("enroll-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("token"), format!("{TOKEN}\n")).expect("a token file");
        Self(directory)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("enroll.sock")
    }

    fn listen(&self) -> OwnedFd {
        let _ = std::fs::remove_file(self.socket());
        let listener =
            rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("socket");
        let address = SocketAddrUnix::new(self.socket()).expect("a short path");
        rustix::net::bind(&listener, &address).expect("bind");
        rustix::net::listen(&listener, 8).expect("listen");
        listener
    }

    fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command
            .env("CAIOS_ENROLL_SOCKET", self.socket())
            .env("CAIOS_ENROLL_TOKEN_FILE", self.0.join("token"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn finish(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr.clone()).expect("escaped text");
    assert!(!text.contains("canary"), "the token is shown: {text}");
    (output.status.code().expect("an exit code"), text)
}

/// Takes one request: its port and token, and where its listeners listen.
fn request(connection: &OwnedFd) -> (u16, Vec<u8>, Vec<SocketAddr>) {
    let mut packet = vec![0; MAX_REQUEST_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        connection,
        &mut [IoSliceMut::new(&mut packet)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("a packet");
    let mut listeners = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for listener in descriptors {
                let (_, peer) = rustix::net::acceptfrom(&listener).expect("a connection waits");
                assert!(peer.is_some());
                let local = rustix::net::getsockname(&listener).expect("a socket");
                listeners.push(SocketAddr::try_from(local).expect("an IP address"));
            }
        }
    }
    let request = parse_request(&packet[..received.bytes]).expect("a request");
    (request.port, request.token.to_vec(), listeners)
}

fn answer(connection: &OwnedFd, packet: &[u8]) {
    rustix::net::send(connection, packet, SendFlags::NOSIGNAL).expect("the client is there");
}

#[test]
fn each_answer_has_its_exit_code_and_its_words() {
    let node = Node::new("answers");
    let listener = node.listen();
    for binary in binaries() {
        for (status, code, said) in [
            (Status::Ready, 0, "credentials are ready"),
            (Status::Enrolled, 0, "still being fetched"),
            (
                Status::RefusedByIssuer,
                0,
                "no credentials for this Pod: why\\u{7}\\xff",
            ),
            (Status::Rejected, 77, "rejects this Pod: why\\u{7}\\xff"),
        ] {
            let child = node
                .command(binary)
                .arg("--port=4242")
                .spawn()
                .expect("starts");
            let connection = rustix::net::accept(&listener).expect("the client connects");
            let (port, token, listeners) = request(&connection);
            assert_eq!((port, token.as_slice()), (4242, TOKEN.as_bytes()));
            assert_eq!(listeners[0].ip(), Ipv4Addr::LOCALHOST);
            answer(&connection, &[&[status as u8][..], b"why\x07\xff"].concat());
            let (exit, text) = finish(&child.wait_with_output().expect("ends"));
            assert_eq!(exit, code, "{text}");
            assert!(text.contains(said), "{text}");
        }
    }
}

#[test]
fn an_absent_a_busy_and_a_broken_agent_are_waited_for() {
    for binary in binaries() {
        let node = Node::new("waits");
        let child = node.command(binary).spawn().expect("starts");
        let listener = node.listen();
        let next = || rustix::net::accept(&listener).expect("the client connects");
        drop(next());
        answer(&next(), b"nonsense");
        let busy = next();
        request(&busy);
        answer(&busy, &[&[Status::Busy as u8][..], b"later"].concat());
        let ready = next();
        request(&ready);
        answer(&ready, &[Status::Ready as u8]);
        let (exit, text) = finish(&child.wait_with_output().expect("ends"));
        assert_eq!(exit, 0, "{text}");
        assert!(
            text.contains("hung up") && text.contains("is busy: later"),
            "{text}"
        );
    }
}

#[test]
fn the_deadline_a_bad_token_file_and_a_bad_flag_have_their_exit_codes() {
    let node = Node::new("codes");
    let (empty, long) = (node.0.join("empty"), node.0.join("long"));
    std::fs::write(&empty, "\n").expect("a file");
    std::fs::write(&long, vec![b'x'; 16 * 1024 + 1]).expect("a file");
    let absent = node.0.join("absent");
    for binary in binaries() {
        for (flag, value, code, said) in [
            ("--deadline", Path::new("0s"), 69, "does not exist yet"),
            ("--token-file", &absent, 66, "no such file"),
            ("--token-file", &empty, 66, "is empty"),
            ("--token-file", &long, 66, "is longer than"),
            ("--deadline", Path::new("soon"), 64, "cannot be `soon`"),
        ] {
            let output = node.command(binary).arg(flag).arg(value).output();
            let (exit, text) = finish(&output.expect("starts"));
            assert_eq!(exit, code, "{text}");
            assert!(text.contains(said), "{text}");
        }
        let help = node.command(binary).arg("--help").output().expect("starts");
        assert!(help.status.success() && help.stdout.starts_with(b"Connects this Pod"));
    }
}

#[test]
fn the_first_process_of_a_container_ends_at_sigterm() {
    let node = Node::new("sigterm");
    let [_, shipped] = binaries();
    let mut command = node.command(shipped);
    // Children of this thread are each the first of a PID namespace, as in a container: the
    // kernel drops signals that such a process has no handler for.
    let waiting = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID)
            .expect("PID namespaces need root, or `unshare -Ur cargo test`");
        command.spawn().expect("starts")
    });
    let mut waiting = waiting.join().expect("the thread ends");
    let mut said = BufReader::new(waiting.stderr.take().expect("a pipe")).lines();
    let first = said.next().expect("it says that it waits").expect("text");
    assert!(first.contains("waiting for the node's agent"), "{first}");
    let id = i32::try_from(waiting.id()).expect("a process id");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(id),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("it runs");
    let ended = waiting.wait().expect("it ends");
    assert_eq!(ended.code(), Some(143));
    let last = said.last().expect("it says that it ends").expect("text");
    assert!(last.contains("told to end"), "{last}");
}

#[test]
fn the_shipped_binary_is_small() {
    let [_, shipped] = binaries();
    let bytes = std::fs::metadata(shipped).expect("it is built").len();
    assert!(bytes <= MAX_SHIPPED_BYTES, "{bytes} bytes");
}
