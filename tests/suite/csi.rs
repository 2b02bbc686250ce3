//! Pods that reach their agent through a CSI volume: the real driver and the real agent, and what
//! plays the kubelet.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use agent::csi::message::{Empty, RegisteredPlugin};
use standin::{Behaviour, Scope, TokenSpec};
use tests::kubelet::{Kubelet, Refused};
use tests::node::{AUDIENCE, NODE_NAME, Node};
use tests::pod::Pod;
use tests::wait;

const DEADLINE: Duration = Duration::from_secs(30);
const VOLUMES: &str = "caios_agent_csi_volumes";
const LISTENERS: &str = "caios_agent_listeners{delivery=\"handoff\"}";

/// Publishes the volume of a Pod with its token; the Pod as it is with that volume mounted.
fn mounted(kubelet: &Kubelet<'_>, node: &Node, pod: Pod) -> Pod {
    let request = kubelet
        .request(&pod.identity.uid, &pod.token().unwrap())
        .unwrap();
    assert_eq!(kubelet.publish(&request).unwrap(), Ok(()));
    let socket = mount(kubelet, node, &pod.identity.uid);
    pod.with_enroll_socket(socket)
}

/// A path that is short enough for a socket, as in a Pod.
fn mount(kubelet: &Kubelet<'_>, node: &Node, uid: &str) -> PathBuf {
    let short = node.directory().join(&uid[uid.len() - 4..]);
    if !short.exists() {
        symlink(kubelet.volume(uid), &short).unwrap();
    }
    short.join("enroll.sock")
}

fn enrolled(pod: &Pod) {
    let output = pod.enroll("20s").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(pod.credentials().unwrap().status, 200);
}

/// What a process has in memory without the pages of its program, in kB.
fn own_memory(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// A token of a Pod that has no more than that.
fn token(node: &Node, service_account: &str, uid: &str) -> String {
    let spec = TokenSpec::new("research", service_account);
    node.mint(&spec.pod("bare", uid).node(NODE_NAME).audience(AUDIENCE))
}

#[test]
fn a_pod_enrols_at_its_own_socket_and_its_key_is_there_before_it_starts() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let kubelet = Kubelet::new(&node).unwrap();
    let _driver = kubelet.driver().unwrap();
    let plugin: RegisteredPlugin = kubelet
        .call(
            &kubelet.registration(),
            "/pluginregistration.Registration/GetInfo",
            &Empty {},
        )
        .unwrap()
        .unwrap();
    assert_eq!(plugin.endpoint, kubelet.endpoint().display().to_string());
    assert_eq!(
        (plugin.r#type.as_str(), plugin.name.as_str()),
        ("CSIPlugin", "csi.caios.coreweave.com")
    );

    let pod = mounted(&kubelet, &node, node.pod("trainer", "train-0").unwrap());
    wait::until("the first exchange", DEADLINE, || {
        node.standin().calls().exchanges() == 1
    })
    .unwrap();
    enrolled(&pod);
    assert_eq!(node.standin().calls().exchanges(), 1);

    // Another Pod of the same ServiceAccount cannot enrol through it.
    let thief = node.pod("trainer", "train-1").unwrap();
    let thief = thief.with_enroll_socket(mount(&kubelet, &node, &pod.identity.uid));
    let output = thief.enroll("5s").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("another Pod"),
        "{said}"
    );

    // The kubelet says that the Pod has ended, twice, and once of one that never was.
    assert_eq!(agent.count(LISTENERS), 1);
    for uid in [&pod.identity.uid, &pod.identity.uid, &"unknown".to_owned()] {
        assert_eq!(kubelet.unpublish(uid).unwrap(), Ok(()));
    }
    wait::until("the listener ends", DEADLINE, || {
        agent.count(LISTENERS) == 0 && agent.count(VOLUMES) == 0
    })
    .unwrap();
    assert!(!kubelet.volume(&pod.identity.uid).exists());
}

#[test]
fn a_token_of_another_pod_and_hostile_requests_publish_nothing() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let kubelet = Kubelet::new(&node).unwrap();
    let _driver = kubelet.driver().unwrap();
    let swapped = kubelet
        .request("victim", &token(&node, "trainer", "thief"))
        .unwrap();
    let Err(Refused { code, message }) = kubelet.publish(&swapped).unwrap() else {
        panic!("the token of another Pod was taken")
    };
    assert_eq!(code, "7", "{message}");
    assert!(message.contains("another Pod"), "{message}");

    let good = kubelet
        .request("victim", &token(&node, "trainer", "victim"))
        .unwrap();
    let mut writable = good.clone();
    writable.readonly = false;
    let mut elsewhere = good.clone();
    elsewhere.target_path = kubelet.volume("other").display().to_string();
    let mut outside = good.clone();
    outside.target_path = node.directory().join("x").display().to_string();
    for request in [writable, elsewhere, outside] {
        let refused = kubelet.publish(&request).unwrap().unwrap_err();
        assert_eq!(refused.code, "3", "{refused:?}");
    }
    assert!(!kubelet.volume("victim").exists(), "it left something");
    assert_eq!(agent.count(VOLUMES), 0);
    assert_eq!(node.standin().calls().exchanges(), 0);
    assert_eq!(kubelet.publish(&good).unwrap(), Ok(()));
}

#[test]
fn a_pod_that_waits_for_credentials_is_held_and_told_why() {
    let node = Node::new().unwrap();
    let _agent = node
        .agent(&["--hold-limit", "1s", "--refusal-memory", "1s"])
        .unwrap();
    let kubelet = Kubelet::new(&node).unwrap();
    let _driver = kubelet.driver().unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let principal = node.principal(&pod.identity);
    let mut request = kubelet
        .request(&pod.identity.uid, &pod.token().unwrap())
        .unwrap();
    request.volume_context.insert(
        "caios.coreweave.com/wait-for-credentials".to_owned(),
        "true".to_owned(),
    );

    // Who may not have credentials reads what to grant to whom.
    node.standin().revoke(&principal);
    let refused = kubelet.publish(&request).unwrap().unwrap_err();
    for needed in [&principal, "cwobject:CreateAccessKeyOIDC"] {
        assert!(refused.message.contains(needed), "{refused:?}");
    }
    assert!(!kubelet.volume(&pod.identity.uid).exists());

    // CoreWeave hangs.
    node.standin()
        .grant(&principal, &["cwobject:CreateAccessKeyOIDC", "s3:*"]);
    node.standin().behave(Scope::default(), Behaviour::Hang);
    wait::until("the driver says that CoreWeave hangs", DEADLINE, || {
        let held = kubelet.publish(&request).unwrap();
        held.is_err_and(|held| held.code == "14")
    })
    .unwrap();

    // It recovers: the kubelet's next try succeeds, with the key in memory.
    node.standin().behave_normally();
    wait::until("the volume is published", DEADLINE, || {
        kubelet.publish(&request).unwrap().is_ok()
    })
    .unwrap();
    let exchanges = node.standin().calls().exchanges();
    let socket = mount(&kubelet, &node, &pod.identity.uid);
    enrolled(&pod.with_enroll_socket(socket));
    assert_eq!(node.standin().calls().exchanges(), exchanges);
    // Published once, it stays: a refusal does not take it away again.
    node.standin().revoke(&principal);
    assert_eq!(kubelet.publish(&request).unwrap(), Ok(()));
}

#[test]
fn sockets_outlive_the_agent_the_driver_and_at_last_both() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let kubelet = Kubelet::new(&node).unwrap();
    let driver = kubelet.driver().unwrap();
    let pod = mounted(&kubelet, &node, node.pod("trainer", "train-0").unwrap());
    let (uid, token) = (pod.identity.uid.clone(), pod.token().unwrap());

    // The driver gives the next agent what the one before it had.
    agent.crash().unwrap();
    let agent = node.agent(&[]).unwrap();
    enrolled(&pod);

    // The agent gives the next driver what the one before it had; and that gives it back.
    driver.crash().unwrap();
    let driver = kubelet.driver().unwrap();
    let request = kubelet.request(&uid, &token).unwrap();
    assert_eq!(kubelet.publish(&request).unwrap(), Ok(()));
    agent.crash().unwrap();
    let agent = node.agent(&[]).unwrap();
    enrolled(&pod);

    // With both gone, the kubelet asks again for each Pod that runs.
    agent.crash().unwrap();
    driver.crash().unwrap();
    let agent = node.agent(&[]).unwrap();
    let _driver = kubelet.driver().unwrap();
    assert!(!pod.enroll("1s").unwrap().status.success());
    assert_eq!(kubelet.publish(&request).unwrap(), Ok(()));
    enrolled(&pod);

    // What the kubelet removes while no agent is there is told to the next.
    assert_eq!(agent.count(VOLUMES), 1);
    assert_eq!(kubelet.unpublish(&uid).unwrap(), Ok(()));
    wait::until("the volume is gone", DEADLINE, || agent.count(VOLUMES) == 0).unwrap();
}

#[test]
fn sockets_outlive_an_upgrade_that_replaces_agent_and_driver_at_once() {
    let node = Node::new().unwrap();
    let mut agent = node.agent(&[]).unwrap();
    let kubelet = Kubelet::new(&node).unwrap();
    let mut driver = kubelet.driver().unwrap();
    let pod = mounted(&kubelet, &node, node.pod("trainer", "train-0").unwrap());
    // Both serve until others do, and no longer.
    driver.ask_to_end().unwrap();
    let admin = SocketAddr::from(([127, 0, 0, 1], 9470));
    let mut arguments = node.agent_arguments();
    let at = arguments.iter().position(|flag| flag == "--admin-listen");
    arguments[at.unwrap() + 1] = admin.to_string();
    let next = node.spawn_agent(&arguments).unwrap();
    let next = next.with_admin(node.namespace(), admin).ready().unwrap();
    let _next_driver = kubelet.driver().unwrap();
    assert!(driver.ended().unwrap().success());
    assert!(agent.terminate().unwrap().success());
    wait::until("the next agent has the volume", DEADLINE, || {
        next.count(VOLUMES) == 1
    })
    .unwrap();
    enrolled(&pod);
}

#[test]
fn volumes_that_come_and_go_leave_nothing() {
    // As many Pods as a kubelet may be told to take.
    const VOLUMES_AT_ONCE: usize = 250;
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let kubelet = Kubelet::new(&node).unwrap();
    let driver = kubelet.driver().unwrap();
    node.standin().grant(
        &node.standin().principal("research", "trainer"),
        &["cwobject:CreateAccessKeyOIDC"],
    );
    let cycle = |first: usize, count: usize| {
        std::thread::scope(|scope| {
            for number in first..first + count {
                let uid = format!("pod-{number}");
                let token = token(&node, "trainer", &uid);
                let kubelet = &kubelet;
                scope.spawn(move || {
                    let request = kubelet.request(&uid, &token).unwrap();
                    assert_eq!(kubelet.publish(&request).unwrap(), Ok(()));
                });
            }
        });
        assert_eq!(agent.count(VOLUMES), count as u64);
        for number in first..first + count {
            assert_eq!(kubelet.unpublish(&format!("pod-{number}")).unwrap(), Ok(()));
        }
        wait::until("all volumes are gone", DEADLINE, || {
            agent.count(VOLUMES) == 0
        })
        .unwrap();
    };
    // What the first of an identity leaves, a connection to CoreWeave, is no Pod's.
    cycle(0, 1);
    let before = (descriptors(agent.id()), descriptors(driver.id()));
    let memory = own_memory(driver.id());
    cycle(1, VOLUMES_AT_ONCE);
    // An identity's key goes with its last Pod: one exchange for each time.
    assert_eq!(node.standin().calls().exchanges(), 2);
    wait::until("as many descriptors as before", DEADLINE, || {
        descriptors(agent.id()) <= before.0 && descriptors(driver.id()) <= before.1
    })
    .unwrap();
    // Of so many calls at once it keeps 7 MB, unless it gives them back, twice a minute.
    wait::until("memory is given back", 2 * DEADLINE, || {
        own_memory(driver.id()) <= memory + 3 * 1024
    })
    .unwrap();
    for number in 0..=VOLUMES_AT_ONCE {
        assert!(!kubelet.volume(&format!("pod-{number}")).exists());
    }
}

#[test]
fn a_driver_that_ends_waits_for_the_next_and_no_token_is_in_any_log() {
    let node = Node::new().unwrap();
    let agent = node.agent(&["--log", "trace"]).unwrap();
    let kubelet = Kubelet::new(&node).unwrap();
    let mut first = kubelet.driver().unwrap();
    let pod = mounted(&kubelet, &node, node.pod("trainer", "train-0").unwrap());
    let stolen = token(&node, "trainer", "other");
    let swapped = kubelet.request("victim", &stolen).unwrap();
    assert!(kubelet.publish(&swapped).unwrap().is_err());
    first.ask_to_end().unwrap();
    wait::until("the driver is ending or serves on", DEADLINE, || {
        kubelet.probe().is_ok()
    })
    .unwrap();
    let second = kubelet.driver().unwrap();
    assert!(first.ended().unwrap().success());
    kubelet.probe().unwrap();
    enrolled(&pod);
    let logs = second.log() + &agent.log();
    assert!(logs.contains("TRACE"), "the logs have no trace");
    for token in [pod.token().unwrap(), stolen] {
        let (head, signature) = token.rsplit_once('.').unwrap();
        for canary in [token.as_str(), head, signature] {
            assert!(!logs.contains(canary), "a token is in a log");
        }
    }
}
