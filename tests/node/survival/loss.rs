//! Agent and keeper die together: the one event that loses listeners. Whose they were is counted and
//! told, and a Pod that is started anew has credentials again.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::cluster::{Cluster, Demand, PHASE_DEADLINE};
use tests::wait;
use tokio::time::Instant;

use super::{full, table};
use crate::agents;

pub(super) const NAME: &str = "agent and keeper killed together";
const TIMES: u32 = 5;
const PODS: u32 = 3;
/// How long a Pod has no listener before that counts: a minute, were this not a test.
const GRACE: &str = "agent.extraArgs[0]=--pod-grace=2s";
const WITHOUT_LISTENER: &str = "caios_agent_pods_without_listener";

/// Lets it happen as often as this run wants it, and prints a line of the table for each time.
pub(super) fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let times = if full() { TIMES } else { TIMES.div_ceil(10) };
    agents::upgraded(cluster, GRACE)?;
    (0..times).try_for_each(|_| once(cluster).context(NAME))
}

fn once(cluster: &Cluster) -> anyhow::Result<()> {
    let started = Instant::now();
    let namespace = cluster.workload_namespace("lost")?;
    cluster.until_injected(&namespace, "trainer")?;
    let load = cluster.load(&namespace, Demand::few(PODS))?;
    agents::until_listeners(cluster, PODS)?;
    cluster.keep_logs();
    let counts = load.during(|| {
        agents::both_killed(cluster)?;
        agents::until_counted(cluster, WITHOUT_LISTENER, PODS, PHASE_DEADLINE)
    })?;
    table::print(NAME, 1, &counts, started);
    agents::until_listeners(cluster, 0)?;
    // Nothing but the loss of both costs requests, and this is how many.
    ensure!(counts.failed > 0, "nothing was lost");
    let pods = load.pods.iter().map(|pod| pod.uid.clone()).collect();
    until_told(cluster, &namespace, &pods)?;
    // And what a person sees at night.
    let agent = cluster.agent()?;
    let status = agent.exec("agent", &["/caios-agent", "status"])?;
    for pod in &load.pods {
        let cure = format!("kubectl -n {namespace} delete pod {}", pod.name);
        ensure!(status.contains(&cure), "no `{cure}` in:\n{status}");
    }

    // What the Event says to do.
    load.end()?;
    let load = cluster.load(&namespace, Demand::few(PODS))?;
    agents::until_listeners(cluster, PODS)?;
    agents::until_counted(cluster, WITHOUT_LISTENER, 0, PHASE_DEADLINE)?;
    load.counts()?.ensure_failed_at_most(0)?;
    let exchanges = cluster.coreweave().exchanges(&namespace);
    // The kubelet brings the token of a Pod with a CSI volume to the agent again, which may exchange it
    // and forget the key with that Pod's end, before the next Pods come.
    ensure!(
        (2..=3).contains(&exchanges),
        "{exchanges} exchanges of an identity whose key was lost once"
    );
    load.end()
}

/// Waits until each of these Pods has an Event that leads to the cure.
fn until_told(cluster: &Cluster, namespace: &str, pods: &BTreeSet<String>) -> anyhow::Result<()> {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let mut told = BTreeSet::new();
    let waited = wait::until("each Pod is told", PHASE_DEADLINE, || {
        let events = cluster.control_plane().get(&path).map(|list| list.body);
        let events = events.unwrap_or_default();
        let events = events.pointer("/items").and_then(Value::as_array);
        let cures = |event: &&Value| {
            let note = event.pointer("/note").and_then(Value::as_str);
            event.pointer("/reason") == Some(&"ListenerLost".into())
                && note.is_some_and(|note| note.contains("kubectl delete pod"))
        };
        let of = |event: &Value| Some(event.pointer("/regarding/uid")?.as_str()?.to_owned());
        told = events
            .into_iter()
            .flatten()
            .filter(cures)
            .filter_map(of)
            .collect();
        told == *pods
    });
    waited.with_context(|| format!("told: {told:?}; lost: {pods:?}"))
}
