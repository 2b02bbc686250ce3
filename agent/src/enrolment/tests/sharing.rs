//! Pods in the network of the node: one listener for all.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use super::super::adopt::Adopted;
use super::*;

/// What the API server says: these are in the node's network.
fn show(agent: &Agent, pods: &[(&str, bool)]) {
    let pods = pods.iter().map(|(name, it)| (PodUid::new(name), *it));
    agent.registry.show_networks(pods.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_in_the_nodes_network_share_one_listener_until_the_last_ends() {
    let (agent, node) = (Agent::start(), PodNamespace::new());
    node.add_interface("eth0", None);
    show(&agent, &[("a", true), ("b", true)]);
    assert_eq!(agent.enrol("a", &node).0, Status::Ready);
    assert_eq!(node.read(PORT), "a");
    assert_eq!(agent.enrol("b", &node).0, Status::Ready);
    assert_eq!(node.read(PORT), "a+b");
    assert_eq!(agent.enrol("b", &node).0, Status::Ready);
    assert_eq!(agent.count(EnrolmentOutcome::Joined), 1);
    assert_eq!(agent.count(EnrolmentOutcome::Known), 1);
    assert_eq!((agent.registry.len(), agent.listeners()), (2, 1));

    assert!(agent.registry.remove(&PodUid::new("a")));
    assert_eq!(node.read(PORT), "b", "the one that ended is still served");
    // The node's interfaces are no witness of a Pod's life.
    assert!(agent.registry.remove_told(&PodUid::new("b")));
    node.until_refused(PORT);
    assert_eq!(agent.listeners(), 0);
}

/// Where the kernel tells whether two sockets are in one network namespace. Older ones find the port
/// taken instead.
mod cookie {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_joins_the_network_of_a_pod_of_which_the_api_server_has_not_said_that() {
        let (agent, pod) = (Agent::start(), PodNamespace::new());
        agent.registry.expect_networks();
        assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
        for (said, status) in [
            (&[("a", true)][..], Status::Busy),
            (&[("b", true)], Status::Busy),
            (&[("a", false), ("b", true)], Status::Rejected),
            (&[("a", true), ("b", false)], Status::Rejected),
        ] {
            // What was said of an enrolled Pod holds on: another agent for each.
            let (agent, pod) = (Agent::start(), PodNamespace::new());
            agent.registry.expect_networks();
            assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
            show(&agent, said);
            let (found, message) = agent.enrol("b", &pod);
            assert_eq!(found, status, "{said:?}: {message}");
            assert_eq!(pod.read(PORT), "a");
        }
        show(&agent, &[("a", true), ("b", true)]);
        assert_eq!(agent.enrol("b", &pod).0, Status::Ready);
        assert_eq!(pod.read(PORT), "a+b");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_its_own_is_a_listener_of_its_own() {
    let (agent, node) = (Agent::start(), PodNamespace::new());
    show(&agent, &[("a", true), ("b", true)]);
    assert_eq!(agent.enrol("a", &node).0, Status::Ready);
    let (listener, _connection) = node.loopback();
    let path = agent.directory.join("enroll.sock");
    let answer = reply(&send(&path, PORT + 1, "good-b", &[listener.as_fd()]));
    assert_eq!(answer.0, Status::Ready, "{}", answer.1);
    assert_eq!(
        (node.read(PORT), node.read(PORT + 1)),
        ("a".to_owned(), "b".to_owned())
    );
    assert_eq!(agent.listeners(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_agent_shares_it_among_the_same_pods_without_a_word_of_the_api_server() {
    let (agent, node) = (Agent::start(), PodNamespace::new());
    node.add_interface("eth0", None);
    // The first one enrols before the API server shows it.
    agent.registry.expect_networks();
    assert_eq!(agent.enrol("a", &node).0, Status::Ready);
    show(&agent, &[("a", true), ("b", true)]);
    assert_eq!(agent.enrol("b", &node).0, Status::Ready);
    let kept: HashMap<_, _> = agent
        .registry
        .pods()
        .into_iter()
        .map(|pod| (pod.clone(), agent.registry.kept(&pod).unwrap()))
        .collect();
    let next = Agent::start();
    for (pod, kept) in &kept {
        let sockets = kept.sockets.iter();
        let sockets: Vec<OwnedFd> = sockets.map(|it| it.try_clone().unwrap()).collect();
        let adopted = next.intake.adopt(&kept.about, sockets);
        assert_eq!(adopted, Adopted::Served, "{pod}");
    }
    drop(kept);
    assert_eq!((next.registry.len(), next.listeners()), (2, 1));
    agent.registry.drain().await;
    assert_eq!(node.read(PORT), "a+b");
    next.registry.remove(&PodUid::new("a"));
    assert_eq!(node.read(PORT), "b");
}
