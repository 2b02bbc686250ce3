//! CSI volumes while kubelet, driver and agent come and go.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use shared::contract;
use tests::cluster::{Cluster, PHASE_DEADLINE, Process, Workload, container};
use tests::wait;
use tokio::time::Instant;

use crate::agents;
use crate::csi::{self, has_said, sayer, until_volumes, volume};
use crate::delivery::{delivered, dialled, keys};

/// A driver that nobody follows ends soon; and all as it was.
const QUICK: &str = "agent.handoverTimeout=3s";
const BACK: &str = "csi.enabled=true,agent.handoverTimeout=20s";
/// Pods that are created together.
const PODS: usize = 2;

/// How long the agent comes after the Pods, at least.
fn late() -> Duration {
    let is_full = std::env::var("NODE_SURVIVE").is_ok_and(|value| value == "full");
    Duration::from_secs(if is_full { 30 } else { 0 })
}

/// Creates Pods that say which keys they have.
fn sayers<'a>(
    cluster: &'a Cluster,
    namespace: &str,
    prefix: &str,
) -> anyhow::Result<Vec<Workload<'a>>> {
    let names = (0..PODS).map(|number| format!("{prefix}-{number}"));
    names.map(|name| sayer(cluster, namespace, &name)).collect()
}

fn end(cluster: &Cluster, pods: &[Workload<'_>]) -> anyhow::Result<()> {
    pods.iter().try_for_each(Workload::ask_to_end)?;
    pods.iter().try_for_each(Workload::gone)?;
    until_volumes(cluster, 0)
}

pub(crate) fn pods_start_by_themselves_when_their_nodes_agent_comes(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = csi::namespace(cluster, "early")?;
    agents::taken_away(cluster)?;
    let started = Instant::now();
    let created = || {
        let mut pods = sayers(cluster, &namespace, "csi")?;
        for pod in &pods {
            pod.until_event(&["FailedMount"])?;
        }
        // The other way in: its init container waits.
        let asks = json!({ "caios.coreweave.com/volume": "hostPath" });
        let idle = [container("main", &["sleep", "86400"])];
        pods.push(cluster.annotated_pod(&namespace, "host-path", &asks, &idle, &json!({}))?);
        wait::until("the agent is late", PHASE_DEADLINE, || {
            started.elapsed() > late()
        })?;
        anyhow::Ok(pods)
    };
    let created = created();
    agents::let_back(cluster)?;
    let pods = created?;
    for pod in &pods {
        pod.until_running()?;
        keys(pod).with_context(|| pod.name.clone())?;
    }
    pods.iter().take(PODS).try_for_each(has_said)?;
    end(cluster, &pods)
}

pub(crate) fn pods_start_whenever_the_driver_is_killed(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = csi::namespace(cluster, "killed")?;
    let mut pods = sayers(cluster, &namespace, "before")?;
    agents::kill_driver(cluster)?;
    pods.iter().try_for_each(has_said)?;
    agents::until_registered(cluster)?;

    let during = sayers(cluster, &namespace, "during")?;
    wait::until("a volume is made", PHASE_DEADLINE, || {
        let mut volumes = during.iter().map(|pod| volume(pod, contract::AGENT_VOLUME));
        volumes.any(|volume| volume.join(contract::ENROLL_SOCKET).exists())
    })?;
    agents::kill_driver(cluster)?;
    during.iter().try_for_each(has_said)?;
    pods.extend(during);
    agents::until_registered(cluster)?;

    agents::driver_killed(cluster)?;
    for pod in &pods {
        keys(pod).with_context(|| pod.name.clone())?;
    }
    until_volumes(cluster, pods.len())?;
    // One of them by force: of that the API server says nothing more.
    let forced = pods.first().context("no Pod")?;
    cluster.typed(&format!(
        "kubectl -n {namespace} delete pod {} --force --grace-period 0",
        forced.name
    ))?;
    pods.iter().skip(1).try_for_each(Workload::ask_to_end)?;
    pods.iter().try_for_each(Workload::gone)?;
    until_volumes(cluster, 0)?;
    let uids: Vec<_> = pods.into_iter().map(|pod| pod.uid).collect();
    csi::left_nothing(&uids)
}

/// Which files the sockets of a Pod's volume are.
fn sockets(pod: &Workload<'_>) -> anyhow::Result<[u64; 2]> {
    let volume = volume(pod, contract::AGENT_VOLUME);
    let file = |name| Ok::<_, std::io::Error>(fs::metadata(volume.join(name))?.ino());
    Ok([
        file(contract::ENROLL_SOCKET)?,
        file(contract::AGENT_SOCKET)?,
    ])
}

/// Ends the sandbox of a Pod, and waits until it has enrolled anew, through the volume that it has.
fn enrolled_again(pod: &Workload<'_>) -> anyhow::Result<()> {
    let main = |pod: &Workload<'_>| Process::of_program(&pod.uid, "sleep 86400");
    let network = main(pod)?.namespace("net")?;
    Process::of_program(&pod.uid, "/pause")?.kill()?;
    wait::until("the Pod runs in a new network", PHASE_DEADLINE, || {
        let now = main(pod).and_then(|main| main.namespace("net"));
        now.is_ok_and(|now| now != network)
    })?;
    pod.until_running()
}

pub(crate) fn sockets_outlive_kubelet_driver_agent_and_at_last_the_driver_for_good(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = csi::namespace(cluster, "outlive")?;
    let pod = cluster.idle_pod(&namespace, "kept")?;
    let idle = container("main", &["sleep", "86400"]);
    let direct = delivered(cluster, &namespace, "direct", idle, &json!({}))?;
    direct.until_running()?;
    let (key, files) = (keys(&pod)?, [sockets(&pod)?, sockets(&direct)?]);
    let socket = format!("{}/{}", contract::PUBLIC_DIRECTORY, contract::AGENT_SOCKET);
    let unchanged = || {
        let now = [sockets(&pod)?, sockets(&direct)?];
        ensure!(now == files, "other sockets");
        ensure!(keys(&pod)? == key, "another key");
        let answer = dialled(&direct, &socket, &direct.token()?)?;
        ensure!(answer.contains(&key), "{answer}");
        until_volumes(cluster, 2)
    };
    let as_before = |after: &'static str| unchanged().context(after);
    as_before("at first")?;
    let published = || {
        let calls = csi::calls(cluster)?.into_iter();
        let of_pod = calls.filter(|call| call.pod == pod.uid && call.method.contains("Publish"));
        anyhow::Ok(of_pod.count())
    };
    let before = published()?;
    cluster.restart_kubelet()?;
    wait::until("the volume is published again", PHASE_DEADLINE, || {
        published().is_ok_and(|now| now > before)
    })?;
    as_before("kubelet restarted")?;
    agents::driver_killed(cluster)?;
    as_before("driver killed")?;
    agents::worker_killed(cluster)?;
    as_before("agent killed")?;
    // Sockets at which nobody enrols just now go to the next driver and the next agent.
    agents::upgraded(cluster, QUICK)?;
    agents::until_registered(cluster)?;
    as_before("another agent and driver")?;
    enrolled_again(&pod)?;
    as_before("enrolled with them")?;
    let restarts = pod.restarts("initContainerStatuses")?;
    ensure!(restarts > 0, "it did not enrol again");

    agents::upgraded(cluster, "csi.enabled=false")?;
    let result = as_before("without the driver").and_then(|()| stays(cluster, &direct));
    agents::upgraded(cluster, BACK)?;
    result?;
    direct.gone()?;
    end(cluster, &[pod])
}

/// Asks a Pod to end, and sees that it stays, as the README says, for want of the driver.
fn stays(cluster: &Cluster, pod: &Workload<'_>) -> anyhow::Result<()> {
    pod.ask_to_end()?;
    let log = cluster.control_plane().directory().join("kubelet.log");
    wait::until("the kubelet misses the driver", PHASE_DEADLINE, || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        log.lines().any(|line| {
            line.contains("TearDown failed")
                && line.contains(&pod.uid)
                && line.contains("not found in the list of registered CSI drivers")
        })
    })?;
    let object = pod.object().context("it has ended without the driver")?;
    let asked = object.pointer("/metadata/deletionTimestamp");
    ensure!(asked.is_some(), "it was not asked to end");
    Ok(())
}
