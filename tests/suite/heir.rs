//! What a worker leaves behind when it crashes: connections on which somebody has asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shared::contract;
use standin::{Behaviour, Scope};
use tests::family::{all_ended, children, has_ended, is_heir, is_stopped};
use tests::keeper::Keeper;
use tests::node::Node;
use tests::pod::Pod;
use tests::program::Program;
use tests::supervised::Supervised;
use tests::wait;

const SOON: Duration = Duration::from_secs(20);
const TAKEN_OVER: &str = "caios_agent_requests_taken_over_total";

/// A client that asks more than once on one connection.
struct KeptAlive {
    stream: BufReader<TcpStream>,
    token: String,
}

impl KeptAlive {
    fn connect(pod: &Pod) -> Self {
        let stream = pod.namespace().call(|| {
            let stream = TcpStream::connect(Pod::listener()).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream
        });
        Self {
            stream: BufReader::new(stream),
            token: pod.token().unwrap(),
        }
    }

    fn ask(&mut self) {
        let (path, token) = (contract::CREDENTIALS_PATH, &self.token);
        let request = format!("GET {path} HTTP/1.1\r\nHost: it\r\nAuthorization: {token}\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// The body of the next answer, which is one with credentials.
    fn answer(&mut self) -> String {
        let (mut status, mut length) = (String::new(), 0);
        self.stream.read_line(&mut status).unwrap();
        assert!(status.starts_with("HTTP/1.1 200 "), "{status:?}");
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    /// How much comes until the end of the connection.
    fn rest(mut self) -> usize {
        self.stream.read_to_end(&mut Vec::new()).unwrap()
    }
}

/// How an agent is brought up.
type Start = fn(&Node, &[&str]) -> anyhow::Result<Supervised>;

/// An agent under its supervisor with a keeper, and a Pod whose keys the keeper holds.
fn kept(node: &Node, start: Start) -> (Program, Supervised, Pod) {
    let keeper = Keeper::spawn(node, "a").unwrap();
    let arguments = Keeper::arguments(node, "a");
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let supervised = start(node, &arguments).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(pod.credentials().unwrap().status, 200);
    wait::until("the keeper has the credentials", SOON, || {
        supervised.agent.count("caios_agent_kept_identities") == 1
    })
    .unwrap();
    (keeper, supervised, pod)
}

fn stop(worker: Pid) {
    kill(worker, Signal::SIGSTOP).unwrap();
    wait::until("the worker has stopped", SOON, || is_stopped(worker)).unwrap();
}

/// The signals that a process does not receive, a bit each.
fn blocked_signals(of: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{of}/status")).unwrap();
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

fn a_later_request_is_answered_under(start: Start) {
    let node = Node::new().unwrap();
    let (_keeper, supervised, pod) = kept(&node, start);
    let (worker, heir) = (supervised.worker().unwrap(), supervised.heir().unwrap());
    let [mut asks, mut other, mut silent] = [(); 3].map(|()| KeptAlive::connect(&pod));
    let keys = [&mut asks, &mut other, &mut silent].map(|client| {
        // The first request leaves the kernel, and its slot, some time after its answer: by the second
        // answer it has.
        client.ask();
        let keys = client.answer();
        client.ask();
        assert_eq!(client.answer(), keys);
        keys
    });
    stop(worker);
    asks.ask();
    other.ask();
    kill(worker, Signal::SIGKILL).unwrap();
    assert_eq!(asks.answer(), keys[0]);
    assert_eq!(other.answer(), keys[1]);
    assert_eq!(silent.rest(), 0, "nobody has asked anything there");
    assert_eq!(supervised.agent.count(TAKEN_OVER), 2);
    // And the connection is as good as before.
    asks.ask();
    assert_eq!(asks.answer(), keys[0]);
    assert!(has_ended(heir));
    assert_ne!(supervised.worker().unwrap(), worker);
    assert_eq!(supervised.children(), [supervised.worker().unwrap()]);
    assert_eq!(node.standin().calls().exchanges(), 1);
}

#[test]
fn a_later_request_that_a_killed_worker_had_not_read_is_answered_by_the_next() {
    a_later_request_is_answered_under(Supervised::ready);
}

#[test]
fn nor_must_the_supervisor_be_the_first_process_for_that() {
    a_later_request_is_answered_under(Supervised::ready_among_others);
}

#[test]
fn a_request_that_waited_for_an_exchange_waits_for_that_of_the_next_worker() {
    let node = Node::new().unwrap();
    let (_keeper, supervised, _pod) = kept(&node, Supervised::ready);
    let worker = supervised.worker().unwrap();
    node.standin().behave(Scope::default(), Behaviour::Hang);
    let pod = node.enrolled_pod("server", "serve-0").unwrap();
    let mut clients = [(); 3].map(|()| KeptAlive::connect(&pod));
    for client in &mut clients {
        client.ask();
    }
    wait::until("all of them wait", SOON, || {
        supervised.agent.count("caios_agent_held_requests") == 3
    })
    .unwrap();
    // One gives up before.
    let [mut one, mut other, gives_up] = clients;
    drop(gives_up);
    wait::until("its end is noticed", SOON, || {
        supervised.agent.count("caios_agent_held_requests") == 2
    })
    .unwrap();
    node.standin().behave_normally();
    kill(worker, Signal::SIGKILL).unwrap();
    assert_eq!(one.answer(), other.answer());
    assert_eq!(supervised.agent.count(TAKEN_OVER), 2);
    // That of the other Pod, the one that hung, and one for both.
    assert_eq!(node.standin().calls().exchanges(), 3);
}

#[test]
fn a_connection_that_a_killed_worker_had_not_accepted_is_the_next_ones() {
    let node = Node::new().unwrap();
    let (_keeper, supervised, pod) = kept(&node, Supervised::ready);
    let worker = supervised.worker().unwrap();
    stop(worker);
    let mut client = KeptAlive::connect(&pod);
    client.ask();
    kill(worker, Signal::SIGKILL).unwrap();
    let keys = client.answer();
    assert_eq!(keys, pod.credentials().unwrap().body);
    assert_eq!(supervised.agent.count(TAKEN_OVER), 0);
    assert_eq!(node.standin().calls().exchanges(), 1);
}

#[test]
fn sigterm_leaves_no_heir() {
    let node = Node::new().unwrap();
    let mut agent = node.agent(&[]).unwrap();
    let worker = Pid::from_raw(i32::try_from(agent.id()).unwrap());
    let heirs = children(worker);
    assert!(matches!(heirs[..], [heir] if is_heir(heir)), "{heirs:?}");
    // What a terminal sends to both is for the worker alone: it may have to drain first.
    let blocked = blocked_signals(heirs[0]);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        assert_ne!(blocked & (1 << (signal as u32 - 1)), 0, "{signal}");
    }
    assert_eq!(agent.terminate().unwrap().code(), Some(0));
    // Reaped by the worker, and not by whoever comes after.
    let left = std::fs::exists(format!("/proc/{}", heirs[0])).unwrap();
    assert!(!left, "{}", agent.log());
}

#[test]
fn a_worker_without_a_supervisor_has_an_heir_that_ends_after_it() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let worker = Pid::from_raw(i32::try_from(agent.id()).unwrap());
    let heirs = children(worker);
    assert!(matches!(heirs[..], [heir] if is_heir(heir)), "{heirs:?}");
    kill(worker, Signal::SIGKILL).unwrap();
    all_ended(&heirs).unwrap();
}

#[test]
fn an_heir_that_does_not_end_is_waited_for_a_second_and_no_longer() {
    let node = Node::new().unwrap();
    let supervised = Supervised::ready(&node, &[]).unwrap();
    let (worker, heir) = (supervised.worker().unwrap(), supervised.heir().unwrap());
    stop(heir);
    kill(worker, Signal::SIGKILL).unwrap();
    wait::until("the supervisor goes on", SOON, || {
        supervised.agent.log().contains("it is not waited for")
    })
    .unwrap();
    // Until then the address of the metrics is taken.
    kill(heir, Signal::SIGKILL).unwrap();
    wait::until("the next worker serves", SOON, || {
        let restarts = supervised.agent.metric("caios_agent_worker_restarts_total");
        restarts.is_ok_and(|restarts| restarts >= 1.0)
    })
    .unwrap();
}

#[test]
fn sigterm_ends_a_supervisor_that_waits_for_an_heir() {
    let node = Node::new().unwrap();
    let mut supervised = Supervised::ready(&node, &[]).unwrap();
    let (worker, heir) = (supervised.worker().unwrap(), supervised.heir().unwrap());
    stop(heir);
    kill(worker, Signal::SIGKILL).unwrap();
    wait::until("the worker is reaped", SOON, || {
        supervised.children() == [heir]
    })
    .unwrap();
    supervised.signal(Signal::SIGTERM).unwrap();
    assert_eq!(supervised.agent.ended().unwrap().code(), Some(0));
}
