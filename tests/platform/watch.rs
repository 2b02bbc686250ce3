//! The watch of Pods against a real API server, with the rights that the chart gives. No kubelet
//! runs here: the tests say what one would say of a Pod, and take its interfaces away as one would.

mod watched;

use std::time::Duration;

use serde_json::json;
use tests::agent::Agent;
use tests::control_plane::ControlPlane;
use tests::wait;

use self::watched::Watched;
use super::agent::enrol;

/// How soon the agent must know what the API server knows.
const SOON: Duration = Duration::from_secs(20);
/// Longer than the back-off of a watch that was interrupted.
const RECOVERY: Duration = Duration::from_secs(90);

fn until(agent: &Agent, limit: Duration, series: &str, value: u64) {
    let what = format!("{series} is {value}");
    #[expect(clippy::cast_precision_loss, reason = "a few Pods")]
    let expected = value as f64;
    wait::until(&what, limit, || {
        agent
            .metric(series)
            .is_ok_and(|found| (found - expected).abs() < 0.5)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
}

const PODS: &str = "caios_agent_watched_pods";
const WITHOUT_LISTENER: &str = "caios_agent_pods_without_listener";
const WITHOUT_INJECTION: &str = "caios_agent_pods_without_injection";
const FAILURES: &str = "caios_agent_pod_watch_failures_total";
const LISTENERS: &str = r#"caios_agent_listeners{delivery="handoff"}"#;

fn ended(reason: &str) -> String {
    format!(r#"caios_agent_listeners_ended_total{{reason="{reason}"}}"#)
}

fn said(outcome: &str) -> String {
    format!(r#"caios_agent_pod_events_total{{outcome="{outcome}"}}"#)
}

#[test]
fn the_listener_of_a_pod_that_has_ended_ends_as_soon_as_its_interfaces_are_gone() {
    let watched = Watched::new(ControlPlane::shared());
    let agent = watched.agent(&[]);
    let (deleted, finished) = (watched.pod("deleted"), watched.pod("finished"));
    for pod in [&deleted, &finished] {
        enrol(pod);
        watched.becomes(&pod.identity.name, "Running", &pod.address.to_string());
    }
    until(&agent, SOON, PODS, 2);
    watched.delete("deleted");
    watched.becomes("finished", "Succeeded", &finished.address.to_string());
    until(&agent, SOON, PODS, 1);
    // An API server may be wrong about that: their network lives.
    for pod in [&deleted, &finished] {
        assert_eq!(pod.credentials().unwrap().status, 200);
        pod.remove_interface().unwrap();
    }
    until(&agent, Duration::from_secs(10), LISTENERS, 0);
    assert_eq!(agent.count(&ended("pod_ended")), 2);
    for pod in [&deleted, &finished] {
        let listens = pod.credentials();
        assert!(listens.is_err(), "{listens:?}");
    }
    // With its last Pod the identity has left memory, and with each Pod its tokens.
    assert_eq!(agent.count("caios_agent_cached_identities"), 0);
    assert_eq!(agent.count("caios_agent_remembered_tokens"), 0);
    assert_eq!(watched.events(), []);
}

#[test]
fn an_api_server_that_is_away_and_has_lost_a_live_pod_ends_nothing() {
    let cluster = ControlPlane::new().unwrap();
    let watched = Watched::new(&cluster);
    let agent = watched.agent(&["--pod-grace=1s"]);
    let (early, late) = (watched.pod("early"), watched.pod("late"));
    enrol(&early);
    watched.becomes("early", "Running", &early.address.to_string());
    until(&agent, SOON, PODS, 2);

    cluster.stop_api_server();
    wait::until("the watch has failed", RECOVERY, || {
        agent.metric(FAILURES).is_ok_and(|count| count >= 2.0)
    })
    .unwrap();
    enrol(&late);
    for pod in [&early, &late] {
        assert_eq!(pod.credentials().unwrap().status, 200);
    }
    assert_eq!(agent.admin("/readyz").unwrap().status, 200);

    // Restored to an older revision, the API server lists all Pods but this one.
    let namespace = &watched.fixture.namespace;
    cluster.lose_pod(namespace, "early").unwrap();
    cluster.start_api_server().unwrap();
    watched.becomes("late", "Running", &late.address.to_string());
    for name in ["next", "another"] {
        watched.create(name, "reader", &[]);
    }
    until(&agent, RECOVERY, PODS, 3);
    assert_eq!(agent.count(LISTENERS), 2);
    for pod in [&early, &late] {
        assert_eq!(pod.credentials().unwrap().status, 200);
    }
    for reason in ["interfaces_gone", "pod_ended", "misplaced"] {
        assert_eq!(agent.count(&ended(reason)), 0, "{reason}");
    }
    assert_eq!(watched.events(), []);
    // It ends when its network does.
    early.remove_interface().unwrap();
    until(&agent, SOON, LISTENERS, 1);
    assert_eq!(agent.count(&ended("pod_ended")), 1);
}

#[test]
fn pods_are_seen_after_etcd_was_restored_to_an_older_revision() {
    let cluster = ControlPlane::new().unwrap();
    let watched = Watched::new(&cluster);
    let agent = watched.agent(&[]);
    let early = watched.pod("early");
    enrol(&early);
    watched.becomes("early", "Running", &early.address.to_string());
    until(&agent, SOON, PODS, 1);
    cluster.save_store().unwrap();
    // The watch sees versions that the store will not reach again for long.
    for number in 0..100 {
        let name = format!("lost-{number}");
        let namespace = &watched.fixture.namespace;
        cluster.service_account(namespace, &name, &[]).unwrap();
    }
    watched.create("lost", "reader", &[]);
    until(&agent, RECOVERY, PODS, 2);

    cluster.restore_store().unwrap();
    for name in ["next", "another"] {
        watched.create(name, "reader", &[]);
    }
    until(&agent, RECOVERY, PODS, 3);
    watched.delete("another");
    until(&agent, SOON, PODS, 2);
    assert_eq!(early.credentials().unwrap().status, 200);
    assert_eq!(agent.count(LISTENERS), 1);
}

#[test]
fn a_pod_that_was_not_injected_is_counted_and_told_once() {
    let watched = Watched::new(ControlPlane::shared());
    let fixture = &watched.fixture;
    let namespace = &fixture.namespace;
    let asks = [("caios.coreweave.com/inject", "true")];
    let cluster = fixture.cluster;
    cluster.service_account(namespace, "asks", &asks).unwrap();
    let mut agent = watched.agent(&[]);
    watched.create("silent", "reader", &[]);
    let uid = watched.create("missed", "asks", &[]);
    until(&agent, SOON, WITHOUT_INJECTION, 1);
    let (reason, regarding, note) = watched.event();
    assert_eq!(
        (reason.as_str(), regarding),
        ("CredentialsNotInjected", uid)
    );
    assert!(note.contains("delete pod missed"), "{note}");
    until(&agent, SOON, &said("created"), 1);
    let [shown] = watched.unserved().try_into().unwrap();
    assert_eq!(
        (&shown["name"], &shown["reason"]),
        (&json!("missed"), &json!("not_injected"))
    );

    // The next agent knows it too, and says nothing new; kubectl shows it where people look.
    assert!(agent.terminate().unwrap().success());
    let agent = watched.agent(&[]);
    until(&agent, SOON, WITHOUT_INJECTION, 1);
    until(&agent, SOON, &said("known"), 1);
    watched.event();
    let mut kubectl = cluster.kubectl().unwrap();
    kubectl.args(["describe", "pod", "missed", "--namespace", namespace]);
    let shown = cluster.printed(kubectl).unwrap();
    assert!(shown.contains("CredentialsNotInjected"), "{shown}");
    watched.delete("missed");
    until(&agent, SOON, WITHOUT_INJECTION, 0);
}

#[test]
fn an_injected_pod_without_a_listener_is_counted_and_told_until_it_has_one() {
    let watched = Watched::new(ControlPlane::shared());
    let agent = watched.agent(&["--pod-grace=1s"]);
    let pod = watched.pod("lost");
    watched.becomes("lost", "Running", &pod.address.to_string());
    until(&agent, SOON, WITHOUT_LISTENER, 1);
    let (reason, _, note) = watched.event();
    assert_eq!(reason, "ListenerLost");
    assert!(note.contains("kubectl delete pod lost"), "{note}");
    let [shown] = watched.unserved().try_into().unwrap();
    assert_eq!(
        (&shown["name"], &shown["reason"]),
        (&json!("lost"), &json!("listener_lost"))
    );
    let remedy = shown["remedy"].as_str().unwrap();
    assert!(remedy.contains("delete pod lost"), "{remedy}");
    enrol(&pod);
    assert!(watched.unserved().is_empty());
    // Of that the API server knows nothing.
    until(&agent, SOON + SOON, WITHOUT_LISTENER, 0);
}

#[test]
fn a_listener_that_is_not_in_its_pods_network_is_taken_and_told() {
    let watched = Watched::new(ControlPlane::shared());
    let agent = watched.agent(&["--pod-grace=1s"]);
    let pod = watched.pod("elsewhere");
    enrol(&pod);
    watched.becomes("elsewhere", "Running", "10.99.99.99");
    until(&agent, SOON + SOON, &ended("misplaced"), 1);
    assert!(pod.credentials().is_err());
    let (reason, _, note) = watched.event();
    assert_eq!(reason, "EnrolmentRejected");
    assert!(note.contains("none of the Pod's addresses"), "{note}");
    // That it has none now needs no second word.
    until(&agent, SOON, WITHOUT_LISTENER, 1);
    watched.event();
    let [shown] = watched.unserved().try_into().unwrap();
    assert_eq!(shown["reason"], "listener_rejected");
}

#[test]
fn a_pod_that_coreweave_refuses_is_told_what_to_grant() {
    let watched = Watched::new(ControlPlane::shared());
    let agent = watched.agent(&[]);
    let pod = watched.pod("refused");
    let fixture = &watched.fixture;
    let principal = fixture.principal("reader");
    fixture.node.standin().revoke(&principal);
    enrol(&pod);
    assert_eq!(pod.credentials().unwrap().status, 403);
    let (reason, _, note) = watched.event();
    assert_eq!(reason, "CredentialsRefused");
    for word in [principal.as_str(), "cwobject:CreateAccessKeyOIDC"] {
        assert!(note.contains(word), "{note}");
    }
    until(&agent, SOON, &said("created"), 1);
}

#[test]
fn with_events_switched_off_pods_are_counted_and_nothing_is_said() {
    let watched = Watched::new(ControlPlane::shared());
    let agent = watched.agent(&["--pod-grace=1s", "--events=false"]);
    watched.pod("lost");
    watched.becomes("lost", "Running", "10.99.99.99");
    until(&agent, SOON, WITHOUT_LISTENER, 1);
    assert_eq!(
        agent.count(&said("created")) + agent.count(&said("failed")),
        0
    );
    assert_eq!(watched.events(), []);
}
