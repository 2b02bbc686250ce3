//! Pods that have lost their listeners, and who brings them new ones.

use std::net::Ipv4Addr;

use clap::Parser as _;
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::watch::{LostPod, Unserved};
use crate::{lost, reattach};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 11, 12, 13);
const DEADLINE: Duration = Duration::from_secs(20);

fn lost_pod(uid: &str, addresses: &[IpAddr]) -> LostPod {
    LostPod {
        pod: Pod {
            uid: PodUid::new(uid),
            name: uid.to_owned(),
            namespace: "research".to_owned(),
            service_account: "trainer".to_owned(),
        },
        addresses: addresses.to_vec(),
        port: PORT,
    }
}

/// A Pod with an address.
fn pod() -> PodNamespace {
    let pod = PodNamespace::new();
    pod.add_interface("eth0", Some(ADDRESS));
    pod
}

fn listener(pod: &PodNamespace, port: u16) -> OwnedFd {
    pod.run(move || {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener.into()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_served_only_where_the_pods_address_and_port_are() {
    let (agent, pod) = (Agent::start(), pod());
    let elsewhere = IpAddr::from([10, 11, 12, 14]);
    let v6 = IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
    for (addresses, port, said) in [
        (&[ADDRESS.into()][..], PORT + 1, "not on port"),
        (&[elsewhere], PORT, "none of the Pod's addresses"),
        (&[], PORT, "no IPv4 address"),
        (&[v6], PORT, "no IPv4 address"),
    ] {
        let brought = vec![listener(&pod, port)];
        let lost = lost_pod("a", addresses);
        let why = agent.intake.reattach(&lost, brought).await;
        let why = why.unwrap_err();
        assert!(why.contains(said), "{said}: {why}");
    }
    assert!(agent.registry.is_empty());
    let lost = lost_pod("a", &[elsewhere, ADDRESS.into()]);
    let brought = vec![listener(&pod, PORT)];
    agent.intake.reattach(&lost, brought).await.unwrap();
    assert_eq!(pod.read(PORT), "a");
    assert_eq!(agent.count(EnrolmentOutcome::Reattached), 1);
    assert_eq!(agent.listeners(), 1);
}

/// The network namespaces of a node, each under a name of its own.
fn named(pods: &[(&str, &PodNamespace)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, pod) in pods {
        let thread = pod.run(rustix::thread::gettid).as_raw_nonzero();
        let namespace = format!("/proc/self/task/{thread}/ns/net");
        std::os::unix::fs::symlink(namespace, directory.path().join(name)).unwrap();
    }
    directory
}

/// Runs both sides, with what the watch has found, until the agent serves `count` Pods.
async fn reattached(agent: &Agent, namespaces: &TempDir, lost: Vec<LostPod>, count: usize) {
    let path = agent.directory.join("reattach.sock");
    let unserved = Arc::new(Unserved::default());
    unserved.found(Vec::new(), lost);
    let (door, intake) = (lost::open(&path).unwrap(), agent.intake.clone());
    let stop = agent.shutdown.child_token();
    let errors = agent.metrics.accept_errors.clone();
    tokio::spawn(lost::run(door, unserved, intake, errors, stop.clone()));
    let arguments = Given::try_parse_from([
        "reattach",
        "--interval=1s",
        &format!("--private-directory={}", agent.directory.display()),
        &format!("--network-namespaces={}", namespaces.path().display()),
    ]);
    let settings = arguments.unwrap().args.settings().unwrap();
    tokio::spawn(reattach::run(settings, stop.clone()));
    let begun = Instant::now();
    while agent.registry.len() < count {
        assert!(begun.elapsed() < DEADLINE, "nobody brought a listener");
        tokio::task::yield_now().await;
    }
    stop.cancel();
}

#[derive(clap::Parser)]
struct Given {
    #[command(flatten)]
    args: reattach::ReattachArgs,
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_have_lost_their_listeners_are_found_by_their_addresses() {
    let (agent, a, other) = (Agent::start(), pod(), PodNamespace::new());
    let namespaces = named(&[("cni-1", &other), ("cni-2", &a)]);
    std::fs::write(namespaces.path().join("no-namespace"), "").unwrap();
    let lost = vec![
        lost_pod("elsewhere", &[IpAddr::from([10, 11, 12, 99])]),
        lost_pod("a", &[ADDRESS.into()]),
    ];
    reattached(&agent, &namespaces, lost, 1).await;
    assert_eq!(a.read(PORT), "a");
    assert_eq!(agent.registry.pods(), [PodUid::new("a")]);
    other.until_refused(PORT);
    // The keeper is told, as of any Pod that has enrolled.
    assert!(agent.registry.kept(&PodUid::new("a")).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_in_two_namespaces_is_nobodys() {
    let (agent, a, thief, b) = (Agent::start(), pod(), pod(), PodNamespace::new());
    b.add_interface("eth0", Some(Ipv4Addr::new(10, 11, 12, 14)));
    let namespaces = named(&[("cni-1", &a), ("cni-2", &thief), ("cni-3", &b)]);
    let lost = vec![
        lost_pod("a", &[ADDRESS.into()]),
        lost_pod("b", &[IpAddr::from([10, 11, 12, 14])]),
    ];
    reattached(&agent, &namespaces, lost, 1).await;
    assert_eq!(agent.registry.pods(), [PodUid::new("b")]);
    a.until_refused(PORT);
    thief.until_refused(PORT);
}
