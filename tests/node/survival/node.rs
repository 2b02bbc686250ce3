//! What happens to the node and its control plane.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::cluster::{Cluster, NODE, PHASE_DEADLINE};
use tests::wait;

use super::scene::Scene;

const WATCHED: &str = "caios_agent_watched_pods";
/// Objects that are written after a copy of etcd: the versions that watches have seen are not
/// reached again for long after it is restored.
const WRITTEN: u32 = 200;

pub(super) fn api_server_away(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.cluster.control_plane().stop_api_server();
    Scene::wait_away(Duration::from_mins(3))?;
    scene.cluster.control_plane().start_api_server()?;
    scene.cluster.start_kubelet_if_ended()?;
    scene.pod_with_credentials()
}

pub(super) fn issuer_key_rotated(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.cluster.control_plane().rotate_token_key()?;
    scene.cluster.register_issuer()?;
    scene.pod_with_credentials()
}

/// A Pod that is younger than the copy is lost. What comes after it must be seen: by the injector a
/// new identity, and by the agent the Pods of the node as they are now.
pub(super) fn etcd_restored(scene: &Scene<'_>) -> anyhow::Result<()> {
    let Scene {
        cluster, namespace, ..
    } = *scene;
    let control_plane = cluster.control_plane();
    control_plane.save_store()?;
    let lost = cluster.idle_pod(namespace, &format!("lost-{}", scene.number))?;
    for number in 0..WRITTEN {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "namespace": namespace, "name": format!("written-{number}") },
        });
        control_plane.apply(&object)?.accepted()?;
    }
    until_all_are_watched(cluster).context("before")?;
    cluster.restore_store()?;
    ensure!(lost.object().is_err(), "nothing was restored");
    scene.first_exchange("restored")?;
    until_all_are_watched(cluster)
}

/// Waits until the agent knows exactly the Pods that the API server has on this node.
fn until_all_are_watched(cluster: &Cluster) -> anyhow::Result<()> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}");
    let (mut there, mut watched) = (0, 0.0);
    let waited = wait::until("the agent knows its Pods", PHASE_DEADLINE, || {
        let pods = cluster.control_plane().get(&path).map(|pods| pods.body);
        let pods = pods.unwrap_or_default();
        let pods = pods.pointer("/items").and_then(Value::as_array);
        there = pods.map_or(0, Vec::len);
        watched = cluster.agent_metric(WATCHED).unwrap_or(-1.0);
        format!("{watched}") == there.to_string()
    });
    waited.with_context(|| format!("{there} Pods, {watched} watched"))
}
