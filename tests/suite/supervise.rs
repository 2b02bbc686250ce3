//! The agent under its supervisor, which is the first process of its container.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use standin::{Behaviour, Scope};
use tests::agent::{ADMIN, Agent};
use tests::node::Node;
use tests::supervised::Supervised;
use tests::wait;
use tokio::time::Instant;

const RESTARTS: &str = "caios_agent_worker_restarts_total";

/// The lines of the log with this message.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let parsed = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    parsed
        .filter(|line: &Value| line["message"] == message)
        .collect()
}

#[test]
fn a_killed_worker_is_followed_by_one_that_serves_at_once() {
    let node = Node::new().unwrap();
    let supervised = Supervised::ready(&node, &[]).unwrap();
    assert_eq!(supervised.agent.count(RESTARTS), 0);
    let pod = node.pod("trainer", "train-0").unwrap();
    for restarts in 1..=3_u32 {
        let killed = supervised.worker().unwrap();
        kill(killed, Signal::SIGKILL).unwrap();
        let died = Instant::now();
        wait::until("the next worker serves", Duration::from_secs(20), || {
            supervised
                .agent
                .metric(RESTARTS)
                .is_ok_and(|count| count >= f64::from(restarts))
        })
        .unwrap();
        assert!(
            died.elapsed() < Duration::from_secs(5),
            "{:?}",
            died.elapsed()
        );
        assert_eq!(supervised.agent.count(RESTARTS), u64::from(restarts));
        assert_ne!(supervised.worker().unwrap(), killed);
        assert!(pod.enroll("20s").unwrap().status.success());
        assert_eq!(pod.credentials().unwrap().status, 200);
    }
    let told = lines(
        &supervised.agent.log(),
        "the worker crashed; another one starts",
    );
    assert_eq!(told.len(), 3, "{told:?}");
    for (line, restarts) in told.iter().zip(1..) {
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["restarts"], restarts);
        assert_eq!(line["end"], "signal 9");
    }
}

#[test]
fn a_worker_that_cannot_start_is_tried_ten_times_and_left_to_the_kubelet_with_its_code() {
    let node = Node::new().unwrap();
    let _taken = node.namespace().call(|| TcpListener::bind(ADMIN)).unwrap();
    let mut supervised = Supervised::spawn(&node, &node.agent_arguments()).unwrap();
    assert_eq!(supervised.agent.ended().unwrap().code(), Some(1));
    let log = supervised.agent.log();
    assert_eq!(lines(&log, "starting").len(), 10, "{log}");
    let pauses = lines(&log, "the worker crashed; another one starts");
    let pauses: Vec<_> = pauses
        .iter()
        .map(|line| line["pause_ms"].as_u64().unwrap())
        .collect();
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 1_000, 1_000, 1_000]);
    assert!(log.contains("crashes steadily"), "{log}");
}

#[test]
fn sigterm_drains_the_worker_and_ends_both_with_0() {
    let node = Node::new().unwrap();
    let mut supervised = Supervised::ready(&node, &[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    node.standin()
        .behave(Scope::default(), Behaviour::Delay(Duration::from_secs(3)));
    assert!(pod.enroll("30s").unwrap().status.success());
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| pod.credentials().unwrap());
        wait::until("the request is held", Duration::from_secs(10), || {
            supervised.agent.count("caios_agent_held_requests") >= 1
        })
        .unwrap();
        supervised.signal(Signal::SIGTERM).unwrap();
        assert_eq!(supervised.agent.ended().unwrap().code(), Some(0));
        assert_eq!(asked.join().unwrap().status, 200);
    });
    let log = supervised.agent.log();
    assert!(log.contains("drained") && !log.contains("crashed"), "{log}");
}

#[test]
fn sigterm_between_two_workers_ends_it_at_once() {
    let node = Node::new().unwrap();
    let _taken = node.namespace().call(|| TcpListener::bind(ADMIN)).unwrap();
    let mut supervised = Supervised::spawn(&node, &node.agent_arguments()).unwrap();
    // The sixth crash is followed by a pause of a second.
    wait::until("it pauses", Duration::from_secs(30), || {
        supervised.agent.log().contains("\"pause_ms\":1000")
    })
    .unwrap();
    supervised.signal(Signal::SIGTERM).unwrap();
    assert_eq!(supervised.agent.ended().unwrap().code(), Some(0));
}

#[test]
fn a_configuration_that_makes_no_sense_is_not_tried_again() {
    let node = Node::new().unwrap();
    for flags in [&["--max-pods=0"][..], &["--no-such-flag"]] {
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let log = node.agent_log();
        let mut supervisor = Agent::supervised(node.namespace(), &flags, &log).unwrap();
        assert_eq!(supervisor.ended().unwrap().code(), Some(64), "{flags:?}");
    }
}

#[test]
fn what_others_leave_behind_in_the_container_is_reaped() {
    let node = Node::new().unwrap();
    let supervised = Supervised::ready(&node, &[]).unwrap();
    let worker = supervised.worker().unwrap();
    // As `kubectl exec`: a shell from outside whose child outlives it.
    let left = Command::new("nsenter")
        .args([
            "--pid",
            "--target",
            &supervised.supervisor().to_string(),
            "--",
        ])
        .args(["sh", "-c", "sleep 0.2 & :"])
        .status()
        .unwrap();
    assert!(left.success());
    wait::until("the orphan is there", Duration::from_secs(5), || {
        supervised.children().len() > 1
    })
    .unwrap();
    wait::until("the orphan is reaped", Duration::from_secs(10), || {
        supervised.children() == [worker]
    })
    .unwrap();
    assert_eq!(supervised.agent.count(RESTARTS), 0);
}
