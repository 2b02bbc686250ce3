//! How the agent starts and ends, as an operator sees it.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use standin::{Behaviour, Scope};
use tests::agent::Agent;
use tests::node::Node;
use tests::pod::Pod;
use tests::wait;

/// A connection to the Pod's listener that never ends its first request.
fn hanging_client(agent: &Agent, pod: &Pod) -> TcpStream {
    let hanging = pod.namespace().call(|| {
        let mut stream = TcpStream::connect(Pod::listener()).unwrap();
        stream
            .write_all(b"GET /v1/credentials HTTP/1.1\r\n")
            .unwrap();
        stream
    });
    wait::until("the connection is served", Duration::from_secs(10), || {
        agent.count("caios_agent_connections") >= 1
    })
    .unwrap();
    hanging
}

#[test]
fn a_bad_configuration_is_reported_whole_with_exit_code_64_before_anything_is_bound() {
    let node = Node::new().unwrap();
    let arguments = [
        "--hold-limit=never",
        "--min-remaining=99h",
        "--api-url=https://oidc.cks.coreweave.com/id/1",
        "--max-pods=0",
        "--attribute=no-value",
    ]
    .map(str::to_owned);
    let public = format!("--public-directory={}", node.public_directory().display());
    let arguments = [arguments.to_vec(), vec![public]].concat();
    let mut agent = node.spawn_agent(&arguments).unwrap();
    assert_eq!(agent.ended().unwrap().code(), Some(64));
    let log = agent.log();
    for problem in [
        "--hold-limit",
        "--min-remaining",
        "--api-url",
        "--max-pods",
        "--attribute",
        "--org-id",
        "--issuer",
    ] {
        assert!(log.contains(problem), "{problem} is not reported:\n{log}");
    }
    assert_eq!(
        std::fs::read_dir(node.public_directory()).unwrap().count(),
        0
    );
}

#[test]
fn an_unknown_flag_is_a_usage_error_too() {
    let node = Node::new().unwrap();
    let mut agent = node.spawn_agent(&["--no-such-flag".to_owned()]).unwrap();
    assert_eq!(agent.ended().unwrap().code(), Some(64));
}

#[test]
fn sigterm_lets_requests_in_flight_end_and_exits_0() {
    let node = Node::new().unwrap();
    let mut agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    node.standin()
        .behave(Scope::default(), Behaviour::Delay(Duration::from_secs(3)));
    assert!(pod.enroll("30s").unwrap().status.success());
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| pod.credentials().unwrap());
        wait::until("the request is held", Duration::from_secs(10), || {
            agent.count("caios_agent_held_requests") >= 1
        })
        .unwrap();
        assert_eq!(
            agent.terminate().unwrap().code(),
            Some(0),
            "{}",
            agent.log()
        );
        assert_eq!(asked.join().unwrap().status, 200);
    });
}

#[test]
fn a_client_that_never_ends_its_request_does_not_outlast_the_drain() {
    let node = Node::new().unwrap();
    let flags = ["--drain-timeout", "1s", "--header-timeout", "1m"];
    let mut agent = node.agent(&flags).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let hanging = hanging_client(&agent, &pod);
    assert_eq!(
        agent.terminate().unwrap().code(),
        Some(0),
        "{}",
        agent.log()
    );
    assert!(agent.log().contains("still in flight"), "{}", agent.log());
    drop(hanging);
}

#[test]
fn an_interrupt_ends_the_drain_at_once_and_another_sigterm_does_not() {
    let node = Node::new().unwrap();
    let flags = ["--drain-timeout", "1m", "--header-timeout", "1m"];
    let mut agent = node.agent(&flags).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let hanging = hanging_client(&agent, &pod);
    let id = nix::unistd::Pid::from_raw(i32::try_from(agent.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    wait::until("the first signal is taken", Duration::from_secs(10), || {
        agent.log().contains("shutting down")
    })
    .unwrap();
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    // It drains all the same.
    assert!(agent.admin("/livez").is_ok());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(agent.ended().unwrap().code(), Some(130));
    drop(hanging);
}

#[test]
fn a_restarted_agent_takes_its_sockets_back_and_pods_enrol_again() {
    let node = Node::new().unwrap();
    let mut agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(agent.terminate().unwrap().code(), Some(0));
    let _agent = node.agent(&[]).unwrap();
    assert!(pod.enroll("10s").unwrap().status.success());
    assert_eq!(pod.credentials().unwrap().status, 200);
}

#[test]
fn readiness_waits_for_the_issuers_keys_and_liveness_does_not() {
    let node = Node::new().unwrap();
    let mut arguments = node.agent_arguments();
    arguments.extend([
        "--jwks-file".to_owned(),
        "/nonexistent/jwks.json".to_owned(),
    ]);
    let from = arguments
        .iter()
        .position(|argument| argument == "issuer")
        .unwrap();
    arguments[from] = "file".to_owned();
    let agent = node.spawn_agent(&arguments).unwrap();
    wait::until("the agent is alive", Duration::from_secs(20), || {
        agent
            .admin("/livez")
            .is_ok_and(|answer| answer.status == 200)
    })
    .unwrap();
    let ready = agent.admin("/readyz").unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("keys"), "{ready:?}");
}
