//! Enrolment as Pods and nodes see it: with the real `caios-enroll`, and with hostile peers.

use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use shared::contract;
use tests::http;
use tests::node::Node;
use tests::pod::Pod;
use tests::wait;

#[test]
fn enrolling_again_changes_nothing() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let again = pod.enroll("10s").unwrap();
    assert!(
        again.status.success(),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
    assert_eq!(pod.credentials().unwrap().status, 200);
    assert_eq!(
        agent.count("caios_agent_listeners{delivery=\"handoff\"}"),
        1
    );
    assert_eq!(
        agent.count("caios_agent_enrollments_total{outcome=\"known\"}"),
        1
    );
    assert_eq!(node.standin().calls().exchanges(), 1);
}

#[test]
fn the_first_exchange_has_ended_when_caios_enroll_has() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(node.standin().calls().exchanges(), 1);
    assert_eq!(pod.credentials().unwrap().status, 200);
    assert_eq!(
        agent.count("caios_agent_requests_total{outcome=\"hit\"}"),
        1
    );
}

#[test]
fn the_ipv6_loopback_of_a_pod_is_served_too_until_the_pod_is_gone() {
    let node = Node::new().unwrap();
    let agent = node.agent(&["--poll-interval", "1s"]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let ask = || {
        let (token, address) = (
            pod.token().unwrap(),
            SocketAddr::from((Ipv6Addr::LOCALHOST, contract::DEFAULT_PORT)),
        );
        pod.namespace()
            .run(async move { http::get(address, contract::CREDENTIALS_PATH, Some(&token)).await })
    };
    assert_eq!(ask().unwrap().status, 200);
    assert_eq!(
        agent.count("caios_agent_requests_total{outcome=\"hit\"}"),
        1
    );
    pod.remove_interface().unwrap();
    wait::until("the listener is closed", Duration::from_secs(15), || {
        ask().is_err()
    })
    .unwrap();
}

#[test]
fn a_refused_enrolment_is_warned_of_with_the_pod_and_without_its_token() {
    let node = Node::new().unwrap();
    let agent = node.agent(&["--enrolment-mode", "plain"]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    assert_eq!(pod.enroll("5s").unwrap().status.code(), Some(77));
    let log = agent.log();
    let line = log
        .lines()
        .find(|line| line.contains("a Pod was not enrolled"))
        .unwrap_or_else(|| panic!("no such line in:\n{log}"));
    assert!(line.contains("WARN"), "{line}");
    assert!(line.contains(&pod.identity.uid), "{line}");
    assert!(!log.contains(&pod.token().unwrap()), "it logs the token");
}

#[test]
fn a_new_sandbox_of_a_pod_takes_the_place_of_the_old_one() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let old = node.enrolled_pod("trainer", "train-0").unwrap();
    let new = node.sandbox(&old).unwrap();
    let enrolled = new.enroll("10s").unwrap();
    assert!(
        enrolled.status.success(),
        "{}",
        String::from_utf8_lossy(&enrolled.stderr)
    );
    assert_eq!(new.credentials().unwrap().status, 200);
    assert_eq!(
        agent.count("caios_agent_enrollments_total{outcome=\"replaced\"}"),
        1
    );
    assert_eq!(
        agent.count("caios_agent_listeners{delivery=\"handoff\"}"),
        1
    );
    assert!(
        old.credentials().is_err(),
        "the old sandbox is still served"
    );
}

#[test]
fn caios_enroll_waits_for_an_agent_that_is_not_there_yet_and_says_so() {
    let node = Node::new().unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let (enrolled, _agent) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pod.enroll("60s").unwrap());
        let agent = node.agent(&[]).unwrap();
        (waiting.join().unwrap(), agent)
    });
    let said = String::from_utf8(enrolled.stderr).unwrap();
    assert!(enrolled.status.success(), "{said}");
    assert!(
        said.contains("wait"),
        "it does not say that it waits: {said}"
    );
    assert_eq!(pod.credentials().unwrap().status, 200);
}

#[test]
fn caios_enroll_gives_up_at_its_deadline_with_an_exit_code_of_its_own() {
    let node = Node::new().unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let enrolled = pod.enroll("1s").unwrap();
    assert_eq!(enrolled.status.code(), Some(69), "{enrolled:?}");
}

#[test]
fn caios_enroll_is_told_why_its_token_is_refused() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let token = node.mint(&node.token(&pod).flaw(standin::Flaw::WrongAudience));
    pod.put_token(&token).unwrap();
    let enrolled = pod.enroll("10s").unwrap();
    let said = String::from_utf8(enrolled.stderr).unwrap();
    assert_eq!(enrolled.status.code(), Some(77), "{said}");
    assert!(said.contains("audience"), "{said}");
    assert!(!said.contains(&token), "it prints the token");
}

#[test]
fn the_listener_of_a_pod_whose_interfaces_are_gone_is_closed() {
    let node = Node::new().unwrap();
    let agent = node.agent(&["--poll-interval", "1s"]).unwrap();
    let gone = node.enrolled_pod("trainer", "train-0").unwrap();
    let stays = node.enrolled_pod("evaluator", "eval-0").unwrap();
    gone.remove_interface().unwrap();
    wait::until("the listener is closed", Duration::from_secs(15), || {
        agent.count("caios_agent_listeners{delivery=\"handoff\"}") == 1
    })
    .unwrap();
    assert!(gone.credentials().is_err());
    assert_eq!(stays.credentials().unwrap().status, 200);
    assert_eq!(agent.count("caios_agent_cached_identities"), 1);
}

#[test]
fn the_plain_hand_off_serves_too() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&["--enrolment-mode", "plain"]).unwrap();
    for name in ["train-0", "train-1"] {
        let pod = node.pod("trainer", name).unwrap();
        assert_eq!(
            pod.enroll("5s").unwrap().status.code(),
            Some(77),
            "any port was taken"
        );
        for _ in 0..2 {
            let enrolled = pod.enroll_with("10s", &["--mode", "plain"]).unwrap();
            assert!(
                enrolled.status.success(),
                "{}",
                String::from_utf8_lossy(&enrolled.stderr)
            );
        }
        for _ in 0..3 {
            assert_eq!(pod.credentials().unwrap().status, 200);
        }
    }
}

#[test]
fn the_port_belongs_to_the_agent_once_a_pod_is_enrolled() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let bound = pod
        .namespace()
        .call(|| std::net::TcpListener::bind(Pod::listener()));
    assert_eq!(bound.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn a_taken_port_is_said_and_holds_nobody_else() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let squatter = pod
        .namespace()
        .call(|| std::net::TcpListener::bind(Pod::listener()))
        .unwrap();
    let enrolled = pod.enroll("5s").unwrap();
    let said = String::from_utf8(enrolled.stderr).unwrap();
    assert!(!enrolled.status.success());
    assert!(said.contains(&contract::DEFAULT_PORT.to_string()), "{said}");
    drop(squatter);
    assert!(pod.enroll("10s").unwrap().status.success());
}

#[test]
fn hostile_peers_of_the_enrolment_socket_hold_up_nobody() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let path = node.public_directory().join(contract::ENROLL_SOCKET);
    let dial = || {
        let kind = SocketType::SEQPACKET;
        let peer = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        connect(&peer, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        peer
    };
    // Silent connections, more of them than are kept waiting.
    let silent: Vec<_> = (0..400).map(|_| dial()).collect();
    // Half a message, garbage, and descriptors without a message that anybody would read.
    let noise = dial();
    rustix::net::send(&noise, b"CAIOS", SendFlags::NOSIGNAL).unwrap();
    let pipe = std::io::pipe().unwrap();
    let many = vec![pipe.0.as_fd(); 64];
    let loaded = dial();
    let mut space = vec![std::mem::MaybeUninit::uninit(); 4096];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
    let bytes = [std::io::IoSlice::new(b"garbage")];
    sendmsg(&loaded, &bytes, &mut control, SendFlags::NOSIGNAL).unwrap();

    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(pod.credentials().unwrap().status, 200);
    wait::until(
        "the hostile messages are rejected",
        Duration::from_secs(10),
        || agent.count("caios_agent_enrollments_total{outcome=\"rejected\"}") >= 2,
    )
    .unwrap();
    drop(silent);
    assert_eq!(agent.count("caios_agent_panics_total"), 0);
}
