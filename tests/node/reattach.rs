//! Pods that have lost their listeners get new ones where `reattach` is on, and are not started anew.

use anyhow::ensure;
use tests::cluster::{Cluster, Demand, PHASE_DEADLINE};
use tests::wait;

use crate::agents;

const PODS: u32 = 3;
/// A Pod counts as lost after two seconds instead of a minute.
const ON: &str = "reattach.enabled=true,agent.extraArgs[0]=--pod-grace=2s";

pub(crate) fn pods_that_lost_their_listeners_have_new_ones_without_a_restart(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    agents::upgraded(cluster, ON)?;
    let namespace = cluster.workload_namespace("reattach")?;
    cluster.until_injected(&namespace, "trainer")?;
    let load = cluster.load(&namespace, Demand::few(PODS))?;
    agents::until_listeners(cluster, PODS)?;
    agents::both_killed(cluster)?;
    agents::until_listeners(cluster, PODS)?;
    let enrolments = r#"caios_agent_enrollments_total{outcome="reattached"}"#;
    let brought = cluster.agent_metric(enrolments)?;
    ensure!(
        (brought - f64::from(PODS)).abs() < 0.5,
        "{brought} listeners were brought to {PODS} Pods"
    );
    // The same Pods, asked by the same clients; what they were refused before, they may tell late.
    wait::until("nobody is refused any more", PHASE_DEADLINE, || {
        let counts = load.during(|| Ok(()));
        counts.is_ok_and(|counts| counts.failed == 0)
    })?;
    let counts = load.during(|| agents::worker_killed(cluster))?;
    ensure!(counts.asked > 0, "nobody asked");
    counts.ensure_failed_at_most(2)?;
    load.end()?;
    agents::upgraded(cluster, "reattach.enabled=false")
}
