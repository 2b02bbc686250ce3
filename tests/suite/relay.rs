//! The relay, as Pods without descriptor passing see it: real clients' requests through
//! `caios-enroll relay` to the agent's `agent.sock`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use shared::contract;
use standin::{Behaviour, Scope};
use tests::http;
use tests::node::Node;
use tests::pod::Pod;
use tests::relay::Relay;
use tests::wait;

/// A connection from inside the Pod.
fn connect(pod: &Pod) -> TcpStream {
    let stream = pod.namespace().call(|| TcpStream::connect(Pod::listener()));
    let stream = stream.unwrap();
    let limit = Some(Duration::from_secs(20));
    stream.set_read_timeout(limit).unwrap();
    stream
}

/// The head of a request that keeps the connection.
fn request(pod: &Pod) -> String {
    let (path, token) = (contract::CREDENTIALS_PATH, pod.token().unwrap());
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n\r\n")
}

/// Reads one whole answer of a connection that is kept.
fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains("\r\n\r\n") || !text.ends_with('}') {
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "it ended after: {text}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    text
}

fn assert_answered(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_pod_is_served_over_both_loopback_addresses_without_enrolling() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    assert_eq!(Relay::check(&pod).unwrap().code(), Some(69));
    let relay = Relay::start(&node, &pod).unwrap();
    assert_eq!(pod.credentials().unwrap().status, 200);
    let token = pod.token().unwrap();
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, contract::DEFAULT_PORT));
    let asked = async move { http::get(v6, contract::CREDENTIALS_PATH, Some(&token)).await };
    assert_eq!(pod.namespace().run(asked).unwrap().status, 200);
    assert_eq!(pod.ask(None).unwrap().status, 401);
    assert_eq!(
        agent.count("caios_agent_listeners{delivery=\"handoff\"}"),
        0
    );
    assert_eq!(node.standin().calls().exchanges(), 1);

    relay.ask_to_end().unwrap();
    let (code, said) = relay.ended().unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(Relay::check(&pod).unwrap().code(), Some(69));
}

#[test]
fn an_agent_that_restarts_or_is_killed_under_load_is_not_seen() {
    let node = Node::new().unwrap();
    let mut agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let relay = Relay::start(&node, &pod).unwrap();
    // Threads that the scope waits for need the last agent.
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let _last = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = pod.credentials().unwrap();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = |what: &str| {
            let before = answered.load(Ordering::Relaxed);
            wait::until(what, Duration::from_secs(20), || {
                answered.load(Ordering::Relaxed) >= before + 20
            })
            .unwrap();
        };
        more("the first agent answers");
        for graceful in [true, false, true, false] {
            if graceful {
                agent.terminate().unwrap();
            } else {
                drop(agent);
            }
            agent = node.agent(&[]).unwrap();
            more("the next agent answers");
        }
        stop.store(true, Ordering::Relaxed);
        agent
    });
    relay.ask_to_end().unwrap();
    let (_, said) = relay.ended().unwrap();
    let told = said
        .lines()
        .filter(|line| line.contains("wait for the node's agent"));
    assert!(told.count() >= 1, "{said}");
}

#[test]
fn a_client_that_comes_before_the_agent_is_held_until_it_is_there() {
    let node = Node::new().unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let _relay = Relay::start(&node, &pod).unwrap();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| pod.credentials().unwrap());
        let _agent = node.agent(&[]).unwrap();
        assert_eq!(asked.join().unwrap().status, 200);
    });
}

#[test]
fn two_hundred_connections_at_once_are_all_answered() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let relay = Relay::start(&node, &pod).unwrap();
    let mut clients: Vec<_> = (0..200).map(|_| connect(&pod)).collect();
    let request = request(&pod).replace("Host:", "Connection: close\r\nHost:");
    for client in &mut clients {
        client.write_all(request.as_bytes()).unwrap();
    }
    for client in &mut clients {
        assert_answered(&answer(client));
    }
    assert_eq!(node.standin().calls().exchanges(), 1);
    let resident = relay.resident().unwrap();
    assert!(resident < 2 * 1024 * 1024, "{resident} bytes");
}

#[test]
fn kept_connections_make_room_when_they_do_nothing() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let _relay = Relay::start(&node, &pod).unwrap();
    let request = request(&pod);
    let kept: Vec<_> = (0..70)
        .map(|_| {
            let mut client = connect(&pod);
            client.write_all(request.as_bytes()).unwrap();
            client
        })
        .collect();
    for mut client in kept.iter().take(64) {
        assert_answered(&answer(&mut client.try_clone().unwrap()));
        client.flush().unwrap();
    }
    // The rest waits until some of the others have done nothing for a while.
    for client in kept.iter().skip(64) {
        assert_answered(&answer(&mut client.try_clone().unwrap()));
    }
    assert_eq!(pod.credentials().unwrap().status, 200);
}

#[test]
fn a_kept_connection_carries_many_requests_and_a_half_closed_one_its_answer() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let _relay = Relay::start(&node, &pod).unwrap();
    let mut client = connect(&pod);
    for _ in 0..50 {
        client.write_all(request(&pod).as_bytes()).unwrap();
        assert_answered(&answer(&mut client));
    }
    client.write_all(request(&pod).as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_answered(&rest);
}

#[test]
fn slow_silent_and_hostile_clients_hold_up_nobody_and_cost_nothing() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&["--header-timeout", "1m"]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let relay = Relay::start(&node, &pod).unwrap();
    let request = request(&pod);
    let _silent: Vec<_> = (0..10).map(|_| connect(&pod)).collect();
    let half: Vec<_> = (0..10)
        .map(|_| {
            let mut client = connect(&pod);
            client.write_all(&request.as_bytes()[..20]).unwrap();
            client
        })
        .collect();
    let ended: Vec<_> = (0..5)
        .map(|_| {
            let mut client = connect(&pod);
            client.write_all(b"GET /v1").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        })
        .collect();
    // One that asks again and again and never reads.
    let mut greedy = connect(&pod);
    greedy.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 {
        match greedy.write(request.as_bytes()) {
            Ok(written) => sent += written,
            Err(_full) => break,
        }
    }
    // One that is more than a head, and one that goes at once.
    let mut endless = connect(&pod);
    let _ = endless.write_all(&vec![b'x'; 1024 * 1024]);
    for _ in 0..50 {
        let mut client = connect(&pod);
        client.write_all(request.as_bytes()).unwrap();
    }
    assert_eq!(pod.credentials().unwrap().status, 200);

    let mut slow = connect(&pod);
    for part in request.as_bytes().chunks(request.len() / 20) {
        slow.write_all(part).unwrap();
        assert_eq!(pod.credentials().unwrap().status, 200);
    }
    assert_answered(&answer(&mut slow));
    // What the greedy one asked is served until nothing of it fits any more. Then all of them wait, and
    // waiting costs nothing: one that spins never rests.
    relay.rests().unwrap();
    drop((half, ended, greedy));
    assert_eq!(pod.credentials().unwrap().status, 200);
}

#[test]
fn an_agent_that_ends_connections_without_an_answer_is_reached_once_a_second() {
    let node = Node::new().unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let socket = node.public_directory().join(contract::AGENT_SOCKET);
    let agent = UnixListener::bind(socket).unwrap();
    agent.set_nonblocking(true).unwrap();
    let _relay = Relay::start(&node, &pod).unwrap();
    let mut client = connect(&pod);
    client.write_all(request(&pod).as_bytes()).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut reached = 0;
    let deadline = Duration::from_secs(30);
    wait::until("the relay gives up", deadline, || {
        reached += agent.incoming().map_while(Result::ok).count();
        client.read(&mut [0; 64]).is_ok_and(|read| read == 0)
    })
    .unwrap();
    assert!((2..=12).contains(&reached), "{reached} connections");
}

#[test]
fn sigterm_lets_what_was_asked_be_answered_and_exits_0() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let relay = Relay::start(&node, &pod).unwrap();
    let _kept = connect(&pod);
    let delay = Behaviour::Delay(Duration::from_secs(2));
    node.standin().behave(Scope::default(), delay);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| pod.credentials().unwrap());
        wait::until("the request is held", Duration::from_secs(10), || {
            agent.count("caios_agent_held_requests") >= 1
        })
        .unwrap();
        relay.ask_to_end().unwrap();
        assert_eq!(asked.join().unwrap().status, 200);
    });
    let (code, said) = relay.ended().unwrap();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_taken_port_is_said_with_an_exit_code_of_its_own() {
    let node = Node::new().unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let squatter = pod.namespace().call(|| TcpListener::bind(Pod::listener()));
    let squatter = squatter.unwrap();
    let relay = Relay::start(&node, &pod).unwrap();
    let (code, said) = relay.ended().unwrap();
    assert_eq!(code, Some(70), "{said}");
    let port = contract::DEFAULT_PORT.to_string();
    assert!(said.contains(&port), "{said}");
    drop(squatter);
}
