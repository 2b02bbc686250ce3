//! What happens to CoreWeave.

use std::time::Duration;

use anyhow::ensure;
use standin::{Behaviour, Scope};
use tests::cluster::{CoreWeave, Demand, PHASE_DEADLINE};
use tests::wait;

use super::scene::Scene;
use crate::agents;

/// Renewals that have failed, so that the key went on.
const KEPT: &str = "caios_agent_renewals_total{outcome=\"kept\"}";
/// How long keys live whose renewal is missed: half of it is left when it is.
const LIFETIME: Duration = Duration::from_secs(40);

pub(super) fn down(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.cluster.coreweave().stop_api();
    let minute = Duration::from_mins(1);
    let result = Scene::wait_away(minute).and_then(|()| scene.pod_with_credentials());
    scene.cluster.coreweave().start_api()?;
    result
}

pub(super) fn down_and_agent_replaced(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.cluster.coreweave().stop_api();
    let result = agents::worker_killed(scene.cluster)
        .and_then(|()| agents::upgraded_and_rolled_back(scene.cluster, scene.number));
    scene.cluster.coreweave().start_api()?;
    result
}

/// Pods whose key is to be renewed while CoreWeave is away go on with it, and have another one soon
/// after CoreWeave is back.
pub(super) fn down_over_a_renewal(scene: &Scene<'_>) -> anyhow::Result<()> {
    let cluster = scene.cluster;
    let coreweave = cluster.coreweave();
    let namespace = cluster.workload_namespace("renewal")?;
    let identity = Scope {
        identity: Some(CoreWeave::subject(&namespace)),
        ..Scope::default()
    };
    let standin = coreweave.standin();
    standin.behave(identity.clone(), Behaviour::Lifetime(LIFETIME));
    cluster.until_injected(&namespace, "trainer")?;
    let kept = cluster.agent_metric(KEPT)?;
    let load = cluster.load(&namespace, Demand::few(2))?;
    coreweave.stop_api();
    let counts = load.during(|| {
        let missed = wait::until("a renewal has failed", LIFETIME, || {
            cluster.agent_metric(KEPT).is_ok_and(|now| now > kept)
        });
        coreweave.start_api()?;
        missed?;
        wait::until("the clients have another key", LIFETIME, || {
            load.counts().is_ok_and(|counts| counts.keys.len() == 2)
        })
    });
    standin.behave(identity, Behaviour::Normal);
    counts?.ensure_failed_at_most(0)?;
    let exchanges = coreweave.exchanges(&namespace);
    ensure!(exchanges == 2, "{exchanges} exchanges for two keys");
    load.end()
}

pub(super) fn slow(scene: &Scene<'_>) -> anyhow::Result<()> {
    let standin = scene.cluster.coreweave().standin();
    standin.behave(Scope::default(), Behaviour::Delay(Duration::from_secs(3)));
    let result = scene.first_exchange("slow");
    standin.behave_normally();
    result
}

/// CoreWeave has a certificate of another authority from one moment to the next, and the `ConfigMap`
/// that one alone. No agent is started anew: the kubelet brings the file, and the next exchange reads
/// it.
pub(super) fn authority_replaced(scene: &Scene<'_>) -> anyhow::Result<()> {
    let cluster = scene.cluster;
    let authority = cluster.coreweave().replace_authority()?;
    cluster.publish_authority(&authority)?;
    // The kubelet looks at the volumes of a Pod that has changed at once, and at others each minute.
    let agent = cluster.agent()?;
    agent.annotate("authority", &scene.number.to_string())?;
    let namespace = cluster.workload_namespace("authority")?;
    cluster.until_injected(&namespace, "trainer")?;
    let pod = cluster.idle_pod(&namespace, "first")?;
    wait::until("the new authority is trusted", PHASE_DEADLINE, || {
        pod.credentials(None).is_ok_and(|(status, _)| status == 200)
    })?;
    ensure!(cluster.agent()?.uid == agent.uid, "another agent is there");
    pod.delete()
}
