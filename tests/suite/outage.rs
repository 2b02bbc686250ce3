//! CoreWeave is down in every way it can be: what a Pod sees. Whole lives of keys run under paused
//! time in the cache's own tests; here the connections are real.

use std::time::Duration;

use shared::contract;
use standin::{Behaviour, CutPoint, Malformation, Scope, TlsMode};
use tests::http;
use tests::node::Node;
use tests::wait;
use tokio::time::Instant;

fn every_outage() -> Vec<(&'static str, Behaviour)> {
    let status = |status| Behaviour::Status {
        status,
        body: None,
        retry_after: None,
    };
    vec![
        ("500", status(500)),
        ("502", status(502)),
        ("503", status(503)),
        ("429", status(429)),
        ("hang", Behaviour::Hang),
        ("cut", Behaviour::Cut(CutPoint::BeforeReading)),
        ("cut after minting", Behaviour::Cut(CutPoint::AfterMinting)),
        ("no JSON", Behaviour::Malformed(Malformation::NotJson)),
        ("half a body", Behaviour::Malformed(Malformation::Truncated)),
        ("too large", Behaviour::TooLarge),
    ]
}

#[test]
fn a_key_in_memory_is_served_while_its_renewal_fails_whatever_coreweave_does() {
    let lifetime = Duration::from_secs(20);
    std::thread::scope(|scope| {
        for (name, outage) in every_outage() {
            scope.spawn(move || {
                let node = Node::new().unwrap();
                let _agent = node.agent(&[]).unwrap();
                node.standin()
                    .behave(Scope::default(), Behaviour::Lifetime(lifetime));
                let pod = node.enrolled_pod("trainer", "train-0").unwrap();
                let keys = pod.credentials().unwrap();
                assert_eq!(keys.status, 200, "{name}");
                node.standin().behave(Scope::default(), outage);
                wait::until("a renewal is tried", lifetime, || {
                    node.standin().calls().exchanges() == 2
                })
                .unwrap();
                let kept = pod.credentials().unwrap();
                assert_eq!((kept.status, &kept.body), (200, &keys.body), "{name}");
            });
        }
    });
}

#[test]
fn a_cold_request_is_held_through_an_outage_and_answered_when_it_ends() {
    std::thread::scope(|scope| {
        for (name, outage) in every_outage() {
            scope.spawn(move || {
                let node = Node::new().unwrap();
                let patient = ["--hold-limit", "30s", "--exchange-timeout", "1s"];
                let _agent = node.agent(&patient).unwrap();
                node.standin().behave_next(1, Scope::default(), outage);
                let pod = node.enrolled_pod("trainer", "train-0").unwrap();
                let answer = pod.credentials().unwrap();
                assert_eq!(answer.status, 200, "{name}: {answer:?}");
                // The one that failed and the one that did not: nothing is tried in a hurry.
                assert_eq!(node.standin().calls().exchanges(), 2, "{name}");
            });
        }
    });
}

#[test]
fn refused_connections_and_broken_tls_are_survived_cold() {
    let node = Node::new().unwrap();
    let agent = node.agent(&["--hold-limit", "30s"]).unwrap();
    let standin = node.standin().clone();
    node.stop_api();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let answers = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| pod.credentials().unwrap()))
            .collect();
        wait::until("the requests are held", Duration::from_secs(10), || {
            agent.count("caios_agent_held_requests") >= 8
        })
        .unwrap();
        standin.set_tls(TlsMode::Garbage);
        node.start_api().unwrap();
        standin.set_tls(TlsMode::Normal);
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{answers:?}"
    );
    assert_eq!(standin.calls().exchanges(), 1);
}

#[test]
fn past_the_hold_limit_a_cold_request_gets_503_and_when_to_ask_again() {
    let node = Node::new().unwrap();
    let agent = node.agent(&["--hold-limit", "2s"]).unwrap();
    node.stop_api();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let started = Instant::now();
    let answer = pod.credentials().unwrap();
    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "an early 5xx is final for some SDKs"
    );
    assert_eq!(answer.status, 503);
    let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(retry_after >= 1);
    assert!(
        agent.count("caios_agent_exchange_requests_total{method=\"post\",outcome=\"unavailable\"}")
            >= 1
    );
}

#[test]
fn a_first_exchange_that_hangs_is_tried_again_within_the_default_hold_limit() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    node.standin()
        .behave_next(1, Scope::default(), Behaviour::Hang);
    let pod = node.pod("trainer", "train-0").unwrap();
    let socket = node.public_directory().join(contract::AGENT_SOCKET);
    let token = pod.token().unwrap();
    let answer = pod.namespace().run(async move {
        http::get_unix(&socket, contract::CREDENTIALS_PATH, Some(&token)).await
    });
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(node.standin().calls().exchanges(), 2);
}
