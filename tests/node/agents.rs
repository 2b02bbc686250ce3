//! Ends of agents and keepers, by crash, by deletion and by upgrade.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::chart::{NAMESPACE, RELEASE};
use tests::cluster::{Cluster, PHASE_DEADLINE, Process};
use tests::wait;
use tokio::time::Instant;

use crate::csi::DRIVER;

/// The worker of the agent's container, the first process of it, and the keeper.
const WORKER: &str = "caios-agent run";
const SUPERVISOR: &str = "/caios-agent supervise";
const KEEPER: &str = "/caios-keeper";
/// How far apart agent and keeper may die to have died together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Between a kill and the next process.
const RESTART: Duration = Duration::from_mins(1);

/// Waits until one agent is on the node, which has taken over what its keeper holds.
fn until_settled(cluster: &Cluster) -> anyhow::Result<()> {
    wait::until("one agent serves", PHASE_DEADLINE, || {
        let linked = cluster.agent_metric("caios_agent_keeper_connected");
        linked.is_ok_and(|linked| linked > 0.0)
    })
}

/// Kills a process of the agent's Pod, and waits until another one is in its place.
fn killed(cluster: &Cluster, program: &str) -> anyhow::Result<()> {
    let agent = cluster.agent()?;
    let process = running(&agent.uid, program, None)?;
    process.kill()?;
    running(&agent.uid, program, Some(process))?;
    until_settled(cluster)
}

/// Waits for a process of a Pod, another one than `before`: it may have been killed a moment ago.
fn running(pod: &str, program: &str, before: Option<Process>) -> anyhow::Result<Process> {
    let mut found = None;
    wait::until(&format!("`{program}` runs"), RESTART, || {
        found = Process::of_program(pod, program).ok();
        found.is_some() && found != before
    })?;
    found.context("it runs")
}

/// As it happens in life, seldom: a worker that crashes as soon as it is started is another matter.
pub(crate) fn worker_killed(cluster: &Cluster) -> anyhow::Result<()> {
    killed(cluster, WORKER)?;
    let started = Instant::now();
    wait::until("the worker has lived for a second", RESTART, || {
        started.elapsed() > Duration::from_secs(1)
    })
}

/// The kernel ends the whole container with its first process.
pub(crate) fn container_killed(cluster: &Cluster) -> anyhow::Result<()> {
    killed(cluster, SUPERVISOR)
}

pub(crate) fn keeper_killed(cluster: &Cluster) -> anyhow::Result<()> {
    killed(cluster, KEEPER)
}

/// Kills the driver as soon as there is one, and waits for nothing.
pub(crate) fn kill_driver(cluster: &Cluster) -> anyhow::Result<()> {
    running(&cluster.agent()?.uid, DRIVER, None)?.kill()
}

/// Kills the driver, and waits until the kubelet knows another one.
pub(crate) fn driver_killed(cluster: &Cluster) -> anyhow::Result<()> {
    killed(cluster, DRIVER)?;
    until_registered(cluster)
}

/// Waits until the kubelet knows the driver that runs.
pub(crate) fn until_registered(cluster: &Cluster) -> anyhow::Result<()> {
    wait::until(
        "the kubelet has registered the driver",
        PHASE_DEADLINE,
        || {
            let log = cluster.agent().and_then(|agent| agent.log("csi"));
            log.is_ok_and(|log| log.contains("the kubelet has registered the driver"))
        },
    )
}

/// Takes the agent off its node, as if it had never been there. What it is after is its `DaemonSet`'s.
pub(crate) fn taken_away(cluster: &Cluster) -> anyhow::Result<()> {
    let old = cluster.agent()?;
    kept_away(cluster)?;
    cluster.typed(&format!(
        "kubectl -n {NAMESPACE} delete pod {} --grace-period 1 --ignore-not-found",
        old.name
    ))?;
    old.gone()
}

/// Has the `DaemonSet` keep agents off the node, and end the one that is there.
pub(crate) fn kept_away(cluster: &Cluster) -> anyhow::Result<()> {
    let elsewhere = r#"{"spec":{"template":{"spec":{"nodeSelector":{"elsewhere":"true"}}}}}"#;
    cluster.typed(&format!(
        "kubectl -n {NAMESPACE} patch daemonset/caios-agent --type merge -p '{elsewhere}'"
    ))?;
    Ok(())
}

/// Has the agent come back.
pub(crate) fn let_back(cluster: &Cluster) -> anyhow::Result<()> {
    let here = r#"{"spec":{"template":{"spec":{"nodeSelector":{"elsewhere":null}}}}}"#;
    cluster.typed(&format!(
        "kubectl -n {NAMESPACE} patch daemonset/caios-agent --type merge -p '{here}'"
    ))?;
    wait::until("an agent is on the node", PHASE_DEADLINE, || {
        cluster.agent().is_ok()
    })?;
    cluster.until_rolled_out()?;
    until_settled(cluster)
}

/// Something in the agent's container takes memory until there is none left. The kernel ends the
/// agent's worker, and with version 2 of cgroups all of the container.
pub(crate) fn out_of_memory(cluster: &Cluster) -> anyhow::Result<()> {
    let agent = cluster.agent()?;
    let worker = Process::of_program(&agent.uid, WORKER)?;
    let memory = worker.memory()?;
    let before = memory.kills()?;
    let mut taker = memory.take_all(worker)?;
    let replaced = running(&agent.uid, WORKER, Some(worker));
    taker.kill()?;
    replaced?;
    let kills = memory.kills()?;
    ensure!(
        kills.is_none() || kills > before,
        "the kernel has ended nothing for want of memory"
    );
    until_settled(cluster)
}

/// Kills keeper and agent at once, so that nobody holds listeners and memory, and waits until both
/// are there again.
pub(crate) fn both_killed(cluster: &Cluster) -> anyhow::Result<()> {
    let agent = cluster.agent()?;
    let programs = [KEEPER, SUPERVISOR];
    let find = |program| Process::of_program(&agent.uid, program);
    let [keeper, supervisor] = programs.map(find);
    let (keeper, supervisor) = (keeper?, supervisor?);
    let started = Instant::now();
    keeper.kill()?;
    supervisor.kill()?;
    let apart = started.elapsed();
    ensure!(apart < TOGETHER, "killed {apart:?} apart");
    wait::until("others are there", RESTART, || {
        let there = |program, dead| find(program).is_ok_and(|other| other != dead);
        there(KEEPER, keeper) && there(SUPERVISOR, supervisor)
    })?;
    until_settled(cluster)
}

/// Waits until another agent than that of the Pod `old` is alone on the node.
fn until_replaced(cluster: &Cluster, old: &str) -> anyhow::Result<()> {
    wait::until("another agent is alone on the node", PHASE_DEADLINE, || {
        let is_another = cluster.agent().is_ok_and(|agent| agent.uid != old);
        is_another && Process::of_pod(old).is_empty()
    })?;
    cluster.until_rolled_out()?;
    until_settled(cluster)
}

pub(crate) fn pod_deleted(cluster: &Cluster) -> anyhow::Result<()> {
    let old = cluster.agent()?;
    old.ask_to_end()?;
    until_replaced(cluster, &old.uid)
}

pub(crate) fn pod_evicted(cluster: &Cluster) -> anyhow::Result<()> {
    let old = cluster.agent()?;
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "namespace": NAMESPACE, "name": old.name },
    });
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}/eviction", old.name);
    let body = eviction.to_string().into_bytes();
    cluster
        .control_plane()
        .send(hyper::Method::POST, &path, "application/json", body)?
        .accepted()?;
    until_replaced(cluster, &old.uid)
}

pub(crate) fn rolled_out_anew(cluster: &Cluster) -> anyhow::Result<()> {
    let restart = format!("kubectl -n {NAMESPACE} rollout restart daemonset/caios-agent");
    replaced_by(cluster, &restart)
}

/// Installs the chart with other values, as an upgrade that changes the agent's Pod does.
pub(crate) fn upgraded(cluster: &Cluster, values: &str) -> anyhow::Result<()> {
    let upgrade =
        format!("helm upgrade {RELEASE} ./helm -n {NAMESPACE} --reuse-values --set {values}");
    replaced_by(cluster, &upgrade)
}

fn replaced_by(cluster: &Cluster, command: &str) -> anyhow::Result<()> {
    let old = cluster.agent()?.uid;
    cluster.typed(command)?;
    until_replaced(cluster, &old)
}

/// An upgrade that changes the agent's Pod, and its rollback.
pub(crate) fn upgraded_and_rolled_back(cluster: &Cluster, number: u32) -> anyhow::Result<()> {
    upgraded(
        cluster,
        &format!("agent.podAnnotations.upgrade=number-{number}"),
    )?;
    replaced_by(cluster, &format!("helm rollback {RELEASE} -n {NAMESPACE}"))?;
    let panics = cluster.agent_metric("caios_agent_panics_total")?;
    ensure!(panics < 1.0, "{panics} panics");
    Ok(())
}

/// Waits until the agent serves listeners of so many Pods.
pub(crate) fn until_listeners(cluster: &Cluster, pods: u32) -> anyhow::Result<()> {
    let series = "caios_agent_listeners{delivery=\"handoff\"}";
    until_counted(cluster, series, pods, PHASE_DEADLINE)
}

/// Waits until the agent counts so many.
pub(crate) fn until_counted(
    cluster: &Cluster,
    series: &str,
    expected: u32,
    deadline: Duration,
) -> anyhow::Result<()> {
    let mut found = f64::NAN;
    let waited = wait::until("the count is right", deadline, || {
        found = cluster.agent_metric(series).unwrap_or(f64::NAN);
        (found - f64::from(expected)).abs() < 0.5
    });
    waited.with_context(|| format!("{series} is {found}, not {expected}"))
}
