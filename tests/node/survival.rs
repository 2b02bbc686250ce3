//! What is restarted, away or slow while clients ask: none of their requests may fail, but for those
//! that a killed agent is answering at that moment.
//!
//! A row is a name, how often `make survive` lets it happen, and what happens; `make test` runs a
//! tenth of that, at least once.

#![expect(clippy::print_stdout, reason = "the table is what is asked for")]

use std::time::Duration;

use anyhow::ensure;
use standin::{Behaviour, Scope};
use tests::cluster::{Cluster, Demand, Load};
use tests::wait;
use tokio::time::Instant;

use crate::agents;

/// Threads of an agent that answer requests.
const WORKERS: u64 = 2;

/// An event and how often it happens in a full run.
struct Row {
    name: &'static str,
    times: u32,
    /// Requests that one event may cut off: a process that is killed takes with it what it is
    /// answering just then, one request for each of its threads.
    may_cut: u64,
    happens: fn(&Scene<'_>) -> anyhow::Result<()>,
}

/// What an event may act on.
struct Scene<'a> {
    cluster: &'a Cluster,
    /// The namespace of the clients, with the ServiceAccount `trainer`.
    namespace: &'a str,
    /// Counts up over all events, for names.
    number: u32,
    /// How long something is away.
    away: Duration,
}

const ROWS: &[Row] = &[
    Row {
        name: "a workload's Pod is deleted",
        times: 10,
        may_cut: 0,
        happens: workload_deleted,
    },
    Row {
        name: "agent's worker killed",
        times: 100,
        may_cut: WORKERS,
        happens: |scene| agents::worker_killed(scene.cluster),
    },
    Row {
        name: "keeper killed",
        times: 50,
        may_cut: 0,
        happens: |scene| agents::keeper_killed(scene.cluster),
    },
    Row {
        name: "DaemonSet rollout restart",
        times: 20,
        may_cut: 0,
        happens: |scene| agents::rolled_out_anew(scene.cluster),
    },
    Row {
        name: "agent's Pod deleted",
        times: 10,
        may_cut: 0,
        happens: |scene| agents::pod_deleted(scene.cluster),
    },
    Row {
        name: "agent's Pod evicted",
        times: 5,
        may_cut: 0,
        happens: |scene| agents::pod_evicted(scene.cluster),
    },
    Row {
        name: "helm upgrade and rollback",
        times: 3,
        may_cut: 0,
        happens: |scene| agents::upgraded_and_rolled_back(scene.cluster, scene.number),
    },
    Row {
        name: "upstream down, agent killed and upgraded",
        times: 3,
        may_cut: WORKERS,
        happens: upstream_down_and_agent_replaced,
    },
    Row {
        name: "kubelet restart",
        times: 3,
        may_cut: 0,
        happens: |scene| scene.cluster.restart_kubelet(),
    },
    Row {
        name: "containerd restart",
        times: 3,
        may_cut: 0,
        happens: |scene| scene.cluster.restart_containerd(),
    },
    Row {
        name: "API server away, a Pod started after",
        times: 2,
        may_cut: 0,
        happens: api_server_away,
    },
    Row {
        name: "upstream down, a Pod started meanwhile",
        times: 3,
        may_cut: 0,
        happens: upstream_down,
    },
    Row {
        name: "upstream slow (3 s), a first exchange meanwhile",
        times: 3,
        may_cut: 0,
        happens: upstream_slow,
    },
    Row {
        name: "issuer key rotation, a Pod started after",
        times: 2,
        may_cut: 0,
        happens: issuer_key_rotated,
    },
];

/// Whether this is the full run: `NODE_SURVIVE=full`.
fn full() -> bool {
    std::env::var("NODE_SURVIVE").is_ok_and(|value| value == "full")
}

pub(crate) fn no_request_fails_whatever_is_restarted_or_away(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("load")?;
    cluster.until_injected(&namespace, "trainer")?;
    let demand = Demand {
        pods: 20,
        with_sessions: 3,
        raw_interval: Duration::from_millis(if full() { 20 } else { 100 }),
        session_interval: Duration::from_millis(500),
    };
    let load = cluster.load(&namespace, demand)?;
    let mut failed = Vec::new();
    let mut number = 0;
    println!(
        "    {:<50} {:>5} {:>9} {:>7} {:>7}",
        "event", "times", "requests", "failed", "seconds"
    );
    for row in ROWS {
        let times = if full() {
            row.times
        } else {
            row.times.div_ceil(10)
        };
        let started = Instant::now();
        let counts = load.during(|| {
            (0..times).try_for_each(|_| {
                number += 1;
                let away = Duration::from_secs(if full() { 180 } else { 10 });
                (row.happens)(&Scene {
                    cluster,
                    namespace: &namespace,
                    number,
                    away,
                })
            })
        })?;
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "    {:<50} {times:>5} {:>9} {:>7} {seconds:>7.1}",
            row.name, counts.asked, counts.failed
        );
        let may_fail = u64::from(times) * row.may_cut;
        if let Err(error) = counts.ensure_failed_at_most(may_fail) {
            failed.push(error.context(row.name));
        }
    }
    ensure!(failed.is_empty(), "{failed:#?}");
    one_exchange_for_all(cluster, &load, &namespace)?;
    load.end()
}

/// All clients are of one identity, whose key was never renewed.
fn one_exchange_for_all(cluster: &Cluster, load: &Load<'_>, namespace: &str) -> anyhow::Result<()> {
    let keys = load.counts()?.keys;
    ensure!(keys.len() == 1, "the clients have seen the keys {keys:?}");
    let subject = format!("system:serviceaccount:{namespace}:trainer");
    let calls = cluster.coreweave().standin().calls();
    let exchanges = calls
        .entries
        .iter()
        .filter(|call| call.identity.as_ref() == Some(&subject));
    let exchanges = exchanges.count();
    ensure!(exchanges == 1, "{exchanges} exchanges of one identity");
    Ok(())
}

/// Starts a Pod, asks for credentials in it, and ends it.
fn pod_with_credentials(scene: &Scene<'_>) -> anyhow::Result<()> {
    let pod = scene
        .cluster
        .idle_pod(scene.namespace, &format!("event-{}", scene.number))?;
    let (status, body) = pod.credentials(None)?;
    ensure!(status == 200, "a new Pod: {status} {body}");
    pod.delete()
}

fn workload_deleted(scene: &Scene<'_>) -> anyhow::Result<()> {
    pod_with_credentials(scene)
}

/// Waits for as long as something is to be away.
fn wait_away(scene: &Scene<'_>) -> anyhow::Result<()> {
    let started = Instant::now();
    let deadline = scene.away + Duration::from_secs(5);
    wait::until("the time is over", deadline, || {
        started.elapsed() >= scene.away
    })
}

fn api_server_away(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.cluster.control_plane().stop_api_server();
    wait_away(scene)?;
    scene.cluster.control_plane().start_api_server()?;
    pod_with_credentials(scene)
}

fn upstream_down(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.cluster.coreweave().stop_api();
    let result = wait_away(scene).and_then(|()| pod_with_credentials(scene));
    scene.cluster.coreweave().start_api()?;
    result
}

fn upstream_down_and_agent_replaced(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.cluster.coreweave().stop_api();
    let result = agents::worker_killed(scene.cluster)
        .and_then(|()| agents::upgraded_and_rolled_back(scene.cluster, scene.number));
    scene.cluster.coreweave().start_api()?;
    result
}

fn upstream_slow(scene: &Scene<'_>) -> anyhow::Result<()> {
    let standin = scene.cluster.coreweave().standin();
    standin.behave(Scope::default(), Behaviour::Delay(Duration::from_secs(3)));
    let first = || {
        let namespace = scene.cluster.workload_namespace("slow")?;
        scene.cluster.until_injected(&namespace, "trainer")?;
        pod_with_credentials(&Scene {
            namespace: &namespace,
            ..*scene
        })
    };
    let result = first();
    standin.behave_normally();
    result
}

fn issuer_key_rotated(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.cluster.control_plane().rotate_token_key()?;
    scene.cluster.register_issuer()?;
    pod_with_credentials(scene)
}
