//! When a Pod is taken for gone.

use std::net::Ipv4Addr;

use prometheus::IntGauge;

use super::super::about::About;
use super::super::descriptor::Cookie;
use super::super::registration::Registration;
use super::super::served::Served;
use super::super::turn::Standing;
use super::*;

fn is_gone(agent: &Agent, uid: &str) -> bool {
    let witnesses = agent.registry.witnesses();
    let (_, witness) = witnesses
        .iter()
        .find(|(pod, _)| pod.as_str() == uid)
        .expect("the Pod is enrolled");
    witness.is_gone()
}

#[tokio::test(flavor = "multi_thread")]
async fn interfaces_of_the_pods_own_making_keep_no_dead_pod() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    pod.add_interface("eth0", Some(Ipv4Addr::new(10, 1, 1, 2)));
    pod.add_interface("docker0", Some(Ipv4Addr::new(172, 17, 0, 1)));
    pod.add_interface("tunl0", None);
    assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    assert!(!is_gone(&agent, "a"));
    pod.remove_interface("eth0");
    assert!(is_gone(&agent, "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_eth0_is_made_anew_lives() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    pod.add_interface("eth0", None);
    assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    pod.remove_interface("eth0");
    pod.add_interface("eth0", None);
    assert!(!is_gone(&agent, "a"));
    pod.remove_interface("eth0");
    assert!(is_gone(&agent, "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_eth0_an_interface_with_an_address_tells() {
    let (agent, pod, bare) = (Agent::start(), PodNamespace::new(), PodNamespace::new());
    pod.add_interface("net0", Some(Ipv4Addr::new(10, 1, 1, 2)));
    // What some kernels put into every namespace says nothing of a Pod's life.
    for pod in [&pod, &bare] {
        pod.add_interface("tunl0", None);
    }
    assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    assert_eq!(agent.enrol("bare", &bare).0, Status::Ready);
    assert!(!is_gone(&agent, "a"));
    pod.remove_interface("net0");
    bare.remove_interface("tunl0");
    assert!(is_gone(&agent, "a"));
    assert!(!is_gone(&agent, "bare"), "it never had an interface");
}

/// A Pod that has these interfaces in a namespace that has none.
fn registration(
    pod: &PodUid,
    cookie: Cookie,
    interfaces: Vec<u32>,
    stop: &CancellationToken,
    gauge: &IntGauge,
) -> Registration {
    let (listener, _connection) = PodNamespace::new().loopback();
    let about = About {
        pod: Pod {
            uid: pod.clone(),
            name: pod.to_string(),
            namespace: "namespace".to_owned(),
            service_account: "default".to_owned(),
        },
        port: PORT,
        mode: Mode::Reown,
        interfaces,
        host_network: false,
        since: Timestamp::UNIX_EPOCH,
    };
    let tenants = Arc::new(Tenants::default());
    let tenancy = tenants.enter(pod.clone());
    let served = Served::new(
        vec![Arc::new(OwnedFd::from(listener))],
        tenants,
        stop.clone(),
        vec![tokio::spawn(stop.clone().cancelled_owned())],
        gauge.clone(),
    );
    Registration::new(about, cookie, Arc::new(served), tenancy, Vec::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_cookies_a_pod_whose_interfaces_are_gone_has_a_new_sandbox() {
    let (registry, stop) = (Registry::new(8), CancellationToken::new());
    let gauge = IntGauge::new("listeners", "of the test").unwrap();
    for (pod, interfaces, is_new) in [("gone", vec![77], true), ("bare", Vec::new(), false)] {
        let pod = PodUid::new(pod);
        registry.insert(registration(&pod, None, interfaces, &stop, &gauge));
        let standing = registry.begin(&pod).unwrap().claim(None, PORT);
        let as_wanted = match standing {
            Standing::Replaces => is_new,
            Standing::Known => !is_new,
            _ => false,
        };
        assert!(as_wanted, "{pod}: {standing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_pod_ends_at_the_next_look_and_not_before() {
    const INTERVAL: Duration = Duration::from_secs(30);
    const JUST_BEFORE: Duration = Duration::from_millis(29_998);
    let registry = Registry::new(8);
    let (gone, mut told) = tokio::sync::mpsc::channel(4);
    let looked = Arc::clone(&registry);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let reaper = tokio::spawn(async move {
        let tell = |pod: &PodUid| gone.try_send(pod.clone()).unwrap();
        crate::reap::run(&looked, INTERVAL, tell, stop).await;
    });
    // The first look is at the start; a Pod dies behind its back.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let stopped = CancellationToken::new();
    let gauge = IntGauge::new("listeners", "of the test").unwrap();
    let pod = PodUid::new("a");
    registry.insert(registration(&pod, Some(1), vec![77], &stopped, &gauge));

    tokio::time::sleep(JUST_BEFORE).await;
    assert_eq!((registry.len(), gauge.get()), (1, 1));
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(told.recv().await, Some(pod));
    assert_eq!((registry.len(), gauge.get()), (0, 0));
    assert!(stopped.is_cancelled());

    shutdown.cancel();
    reaper.await.unwrap();
}
