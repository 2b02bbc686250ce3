//! The events.

use super::scene::Scene;
use super::{node, upstream};
use crate::agents;

/// Requests that the end of a whole container may cut off: what the kernel has given to it and is in no slot
/// yet, one for each thread that answers requests. When the worker alone ends, its heir has them.
const WITHOUT_HEIR: u64 = 2;

/// An event and how often it happens in a full run.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) times: u32,
    /// Requests that one event may cut off.
    pub(super) may_cut: u64,
    pub(super) happens: fn(&Scene<'_>) -> anyhow::Result<()>,
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a workload's Pod is deleted",
        times: 10,
        may_cut: 0,
        happens: |scene| scene.pod_with_credentials(),
    },
    Row {
        name: "agent's worker killed",
        times: 100,
        may_cut: 0,
        happens: |scene| agents::worker_killed(scene.cluster),
    },
    Row {
        name: "agent's container killed",
        times: 20,
        may_cut: WITHOUT_HEIR,
        happens: |scene| agents::container_killed(scene.cluster),
    },
    Row {
        name: "agent's container out of memory (OOM)",
        times: 5,
        may_cut: WITHOUT_HEIR,
        happens: |scene| agents::out_of_memory(scene.cluster),
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
        may_cut: 0,
        happens: upstream::down_and_agent_replaced,
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
        happens: node::api_server_away,
    },
    Row {
        name: "etcd restored to an older revision",
        times: 1,
        may_cut: 0,
        happens: node::etcd_restored,
    },
    Row {
        name: "upstream down, a Pod started meanwhile",
        times: 3,
        may_cut: 0,
        happens: upstream::down,
    },
    Row {
        name: "upstream down over a whole renewal",
        times: 3,
        may_cut: 0,
        happens: upstream::down_over_a_renewal,
    },
    Row {
        name: "upstream slow (3 s), a first exchange meanwhile",
        times: 3,
        may_cut: 0,
        happens: upstream::slow,
    },
    Row {
        name: "upstream's authority replaced",
        times: 3,
        may_cut: 0,
        happens: upstream::authority_replaced,
    },
    Row {
        name: "issuer key rotation, a Pod started after",
        times: 2,
        may_cut: 0,
        happens: node::issuer_key_rotated,
    },
];
