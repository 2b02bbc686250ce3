//! Keepers in threads, driven by agents that speak packets.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketType, socketpair};
use tempfile::TempDir;

use super::*;
use crate::descriptor::tests::memory;
use crate::packet::{self, Packet};
use crate::protocol::{Message, Role, VERSION, Verdict};

/// A keeper in a thread, which is asked to end when this is dropped.
struct Running {
    asked: OwnedFd,
    thread: Option<JoinHandle<Result<(), Problem>>>,
}

impl Running {
    fn start(directory: &TempDir, instance: &str) -> Self {
        let settings = Settings {
            socket: path(directory),
            instance: instance.to_owned(),
            max_listeners: 64,
        };
        let asked = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let end = asked.try_clone().unwrap();
        let thread = std::thread::spawn(move || run(settings, end, &|_line| {}));
        Self {
            asked,
            thread: Some(thread),
        }
    }

    fn ask_to_end(&self) {
        rustix::io::write(&self.asked, &1u64.to_ne_bytes()).unwrap();
    }

    /// Waits for its end.
    fn ended(mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().unwrap().is_finished()
    }
}

fn path(directory: &TempDir) -> PathBuf {
    directory.path().join("keeper.sock")
}

/// An agent that has said who it is.
struct Agent {
    socket: OwnedFd,
    listeners: BTreeMap<String, (String, u16)>,
    snapshots: Vec<String>,
    unanswered: Vec<OwnedFd>,
    superseded: bool,
    complete: bool,
}

fn hello(role: Role, instance: &str) -> Vec<u8> {
    let hello = Message::Hello {
        version: VERSION,
        role,
        instance,
    };
    hello.encode()
}

/// Waits for a packet.
fn next(socket: &OwnedFd) -> Packet {
    let wait = Timespec::try_from(Duration::from_secs(10)).unwrap();
    let ready = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&wait)).unwrap();
    assert_eq!(ready, 1, "the keeper says nothing");
    packet::receive(socket).unwrap()
}

/// Connects as soon as somebody listens.
fn connected(path: &Path) -> OwnedFd {
    let until = now() + Duration::from_secs(10);
    loop {
        match packet::connect(path) {
            Ok(socket) => return socket,
            Err(error) => assert!(now() < until, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// How a keeper receives this.
fn verdict(directory: &TempDir, role: Role, instance: &str) -> Verdict {
    let socket = connected(&path(directory));
    packet::send(&socket, &hello(role, instance), &[]).unwrap();
    match Message::decode(&next(&socket).bytes).unwrap() {
        Message::Welcome { verdict, .. } => verdict,
        other => panic!("{other:?}"),
    }
}

impl Agent {
    /// Connects until it is accepted, and takes in all that is held.
    fn of(directory: &TempDir, instance: &str) -> Self {
        let until = now() + Duration::from_secs(10);
        loop {
            let socket = connected(&path(directory));
            // A keeper that is just ending hangs up; so does one of another Pod.
            let said = packet::send(&socket, &hello(Role::Agent, instance), &[]);
            let welcome = said.map(|()| next(&socket).bytes).unwrap_or_default();
            if let Ok(Message::Welcome {
                verdict: Verdict::Accepted,
                ..
            }) = Message::decode(&welcome)
            {
                let mut agent = Self {
                    socket,
                    listeners: BTreeMap::new(),
                    snapshots: Vec::new(),
                    unanswered: Vec::new(),
                    superseded: false,
                    complete: false,
                };
                agent.until(|agent| agent.complete);
                return agent;
            }
            assert!(now() < until, "no keeper of {instance}");
        }
    }

    /// Takes in what the keeper says until `condition` holds.
    fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            let packet = next(&self.socket);
            match Message::decode(&packet.bytes).unwrap() {
                Message::Listener { key, about } => {
                    let address = rustix::net::getsockname(&packet.descriptors[0]).unwrap();
                    let port = std::net::SocketAddr::try_from(address).unwrap().port();
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    self.listeners.insert(text(key), (text(about), port));
                }
                Message::Gone { key } => {
                    self.listeners.remove(str::from_utf8(key).unwrap());
                }
                Message::Snapshot { .. } => {
                    let memory = std::fs::File::from(packet.descriptors[0].try_clone().unwrap());
                    let mut text = vec![0; 64];
                    let read = std::os::unix::fs::FileExt::read_at(&memory, &mut text, 0).unwrap();
                    text.truncate(read);
                    self.snapshots.push(String::from_utf8(text).unwrap());
                }
                Message::Unanswered => self.unanswered = packet.descriptors,
                Message::Superseded(now) => self.superseded = now,
                Message::Complete => self.complete = true,
                other => panic!("{other:?}"),
            }
        }
    }

    fn say(&self, message: &Message<'_>) {
        packet::send(&self.socket, &message.encode(), &[]).unwrap();
    }

    fn hold(&self, pod: &str, about: &str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let message = Message::Listener {
            key: pod.as_bytes(),
            about: about.as_bytes(),
        };
        packet::send(&self.socket, &message.encode(), &[listener.as_fd()]).unwrap();
        listener.local_addr().unwrap().port()
    }

    fn remember(&self, instance: &str, text: &str) {
        let memory = memory(text.as_bytes(), true);
        let message = Message::Snapshot { instance }.encode();
        packet::send(&self.socket, &message, &[memory.as_fd()]).unwrap();
    }

    fn has(&self, pod: &str) -> bool {
        self.listeners.contains_key(pod)
    }
}

#[test]
fn the_next_agent_gets_what_the_last_one_had() {
    let directory = tempfile::tempdir().unwrap();
    let _keeper = Running::start(&directory, "pod");
    let first = Agent::of(&directory, "pod");
    assert!(first.listeners.is_empty() && first.snapshots.is_empty());
    let port = first.hold("a", "about a");
    first.hold("b", "about b");
    first.say(&Message::Gone { key: b"b" });
    first.remember("pod", "keys 1");
    first.remember("pod", "keys 2");
    drop(first);
    let second = Agent::of(&directory, "pod");
    let expected = BTreeMap::from([("a".to_owned(), ("about a".to_owned(), port))]);
    assert_eq!(second.listeners, expected);
    assert_eq!(second.snapshots, ["keys 2"]);
    // The descriptor of the first agent is long closed; who connects is not refused.
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
}

#[test]
fn the_next_agent_gets_where_the_last_one_held_what_it_was_answering() {
    let directory = tempfile::tempdir().unwrap();
    let _keeper = Running::start(&directory, "pod");
    for number in *b"ab" {
        let agent = Agent::of(&directory, "pod");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::SEQPACKET;
        let (near, far) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        packet::send(&near, &[number], &[]).unwrap();
        let message = Message::Unanswered.encode();
        packet::send(&agent.socket, &message, &[far.as_fd()]).unwrap();
        drop((near, far, agent));
        let next = Agent::of(&directory, "pod");
        assert_eq!(next.unanswered.len(), 1, "the last one's alone");
        let waiting = packet::receive(&next.unanswered[0]).unwrap();
        assert_eq!(waiting.bytes, [number]);
    }
}

#[test]
fn the_next_pods_keeper_takes_over_and_both_agents_see_what_changes() {
    let directory = tempfile::tempdir().unwrap();
    let old_keeper = Running::start(&directory, "old");
    let mut old = Agent::of(&directory, "old");
    old.hold("a", "1");
    old.remember("old", "keys of old");
    old.say(&Message::Serving(true));

    let new_keeper = Running::start(&directory, "new");
    let mut new = Agent::of(&directory, "new");
    assert!(new.has("a"));
    assert_eq!(new.snapshots, ["keys of old"]);
    assert_eq!(verdict(&directory, Role::Agent, "old"), Verdict::Elsewhere);
    new.say(&Message::Serving(true));
    old.until(|old| old.superseded);
    assert_eq!(verdict(&directory, Role::Agent, "old"), Verdict::Superseded);
    assert_eq!(
        verdict(&directory, Role::Keeper, "old"),
        Verdict::Superseded
    );

    // What either learns, the other learns.
    old.hold("b", "1");
    new.until(|new| new.has("b"));
    new.hold("c", "1");
    new.say(&Message::Gone { key: b"a" });
    old.until(|old| old.has("c") && !old.has("a"));
    new.remember("new", "keys of new");
    old.until(|old| !old.snapshots.is_empty());

    // Asked to end, the old keeper waits for its agent, and for nothing else.
    old_keeper.ask_to_end();
    old.hold("d", "1");
    new.until(|new| new.has("d"));
    assert!(!old_keeper.has_ended());
    drop(old);
    old_keeper.ended();

    drop(new);
    let third = Agent::of(&directory, "new");
    assert_eq!(third.listeners.len(), 3);
    assert_eq!(
        third.snapshots,
        ["keys of new"],
        "what was taken in is forgotten"
    );
    drop(new_keeper);
}

#[test]
fn a_successor_that_dies_gives_the_place_back() {
    let directory = tempfile::tempdir().unwrap();
    let _old_keeper = Running::start(&directory, "old");
    let mut old = Agent::of(&directory, "old");
    old.hold("a", "1");
    let new_keeper = Running::start(&directory, "new");
    let new = Agent::of(&directory, "new");
    new.say(&Message::Serving(true));
    new.hold("b", "1");
    old.until(|old| old.superseded && old.has("b"));
    // The new Pod goes: its agent in good order, its keeper with it.
    new.say(&Message::Leaving);
    new_keeper.ask_to_end();
    drop(new);
    new_keeper.ended();
    old.until(|old| !old.superseded);
    drop(old);
    let old = Agent::of(&directory, "old");
    assert!(old.has("a") && old.has("b"), "the path leads back");
}

#[test]
fn an_ending_keeper_waits_for_a_successor_unless_its_agent_says_that_none_comes() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Running::start(&directory, "pod");
    let agent = Agent::of(&directory, "pod");
    agent.hold("a", "1");
    keeper.ask_to_end();
    drop(agent);
    // The agent has crashed. What takes the Pod's place still finds everything.
    let next_keeper = Running::start(&directory, "next");
    let next = Agent::of(&directory, "next");
    assert!(next.has("a"));
    keeper.ended();
    next_keeper.ask_to_end();
    next.say(&Message::Leaving);
    drop(next);
    next_keeper.ended();
}

#[test]
fn what_makes_no_sense_is_hung_up_on_and_costs_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let _keeper = Running::start(&directory, "pod");
    let agent = Agent::of(&directory, "pod");
    agent.hold("a", "1");
    let file = std::fs::File::open("/proc/self/stat").unwrap();
    let no_listener = Message::Listener {
        key: b"x",
        about: b"",
    }
    .encode();
    for (greeted, packet, descriptors) in [
        (false, b"nonsense".to_vec(), vec![]),
        (false, Message::Complete.encode(), vec![]),
        (true, vec![b'L', 9], vec![]),
        (true, no_listener.clone(), vec![]),
        (true, no_listener, vec![file.as_fd()]),
        (
            true,
            Message::Snapshot { instance: "pod" }.encode(),
            vec![file.as_fd()],
        ),
        (true, Message::Unanswered.encode(), vec![file.as_fd()]),
    ] {
        let socket = connected(&path(&directory));
        if greeted {
            packet::send(&socket, &hello(Role::Agent, "pod"), &[]).unwrap();
        }
        packet::send(&socket, &packet, &descriptors).unwrap();
        while !next(&socket).bytes.is_empty() {}
    }
    let version = Message::Hello {
        version: VERSION + 1,
        role: Role::Keeper,
        instance: "later",
    };
    let socket = connected(&path(&directory));
    packet::send(&socket, &version.encode(), &[]).unwrap();
    let told = next(&socket).bytes;
    assert!(matches!(
        Message::decode(&told).unwrap(),
        Message::Welcome {
            version: VERSION,
            verdict: Verdict::Version,
            ..
        }
    ));
    assert!(Agent::of(&directory, "pod").has("a"));
}

#[test]
fn a_socket_that_somebody_removes_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let _keeper = Running::start(&directory, "pod");
    Agent::of(&directory, "pod").hold("a", "1");
    std::fs::remove_file(path(&directory)).unwrap();
    assert!(Agent::of(&directory, "pod").has("a"));
}
