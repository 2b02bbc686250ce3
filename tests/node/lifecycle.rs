//! Pods as they come, restart and go.

#![expect(clippy::print_stdout, reason = "what was counted is what it prints")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::cluster::{Cluster, NODE, PHASE_DEADLINE, Process, Workload, container, pod_spec};
use tests::wait;

use crate::csi;
use crate::held::Held;

const LISTENERS: &str = "caios_agent_listeners{delivery=\"handoff\"}";
/// How long the agent may take to notice that a Pod is gone.
const REAPED: Duration = Duration::from_secs(30);

/// Pods that are created together, and how often in a full run.
const WAVE: usize = 20;
const WAVES: usize = 25;
const IDENTITIES: &str = "caios_agent_cached_identities";
const KEPT: &str = "caios_agent_kept_identities";
const TOKENS: &str = "caios_agent_remembered_tokens";

/// How many Pods of a Job run at once.
const RUNS: u64 = 5;

/// Waits until the agent has exactly one listener for each Pod that runs and was to get credentials.
fn until_one_listener_each(cluster: &Cluster) -> anyhow::Result<()> {
    let (mut running, mut listeners) = (0, 0.0);
    let waited = wait::until("the agent has a listener for each Pod", REAPED, || {
        let pods = cluster.control_plane().get("/api/v1/pods");
        let pods = pods.map(|pods| pods.body).unwrap_or_default();
        let pods = pods.pointer("/items").and_then(Value::as_array);
        running = pods
            .into_iter()
            .flatten()
            .filter(|pod| enrolled(pod))
            .count();
        listeners = cluster.agent_metric(LISTENERS).unwrap_or(-1.0);
        format!("{listeners}") == running.to_string()
    });
    waited.map_err(|error| error.context(format!("{running} Pods, {listeners} listeners")))
}

/// Whether a Pod runs that enrols before its first container.
fn enrolled(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase");
    let first = pod.pointer("/spec/initContainers/0/name");
    phase == Some(&"Running".into()) && first == Some(&"caios-enroll".into())
}

/// Creates and deletes as many Pods as are created at once, half of them with a CSI volume; the uids of
/// those.
fn wave(cluster: &Cluster, namespace: &str, number: usize) -> anyhow::Result<Vec<String>> {
    let idle = [container("main", &["sleep", "86400"])];
    let ways = ["hostPath", "csi"].into_iter().cycle().take(WAVE);
    let pods = ways.enumerate().map(|(pod, way)| {
        let name = format!("pod-{number}-{pod}");
        let asks = json!({ "caios.coreweave.com/volume": way });
        cluster.annotated_pod(namespace, &name, &asks, &idle, &json!({}))
    });
    let pods: Vec<_> = pods.collect::<Result<_, _>>()?;
    pods.iter().try_for_each(Workload::until_running)?;
    if number == 0 {
        until_one_listener_each(cluster)?;
        csi::until_volumes(cluster, WAVE / 2)?;
    }
    pods.iter().try_for_each(Workload::ask_to_end)?;
    pods.iter().try_for_each(Workload::gone)?;
    let mounted = pods.into_iter().skip(1).step_by(2);
    Ok(mounted.map(|pod| pod.uid).collect())
}

pub(crate) fn pods_that_come_and_go_leave_nothing_on_their_node(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let is_full = std::env::var("NODE_SURVIVE").is_ok_and(|value| value == "full");
    let waves = if is_full { WAVES } else { WAVES / 5 };
    let namespace = cluster.workload_namespace("churn")?;
    cluster.until_injected(&namespace, "trainer")?;
    let identities = cluster.agent_metric(IDENTITIES)?;
    let tokens = cluster.agent_metric(TOKENS)?;
    // What the first Pods leave, buffers and a connection to CoreWeave, is no Pod's.
    let mut mounted = wave(cluster, &namespace, 0)?;
    until_one_listener_each(cluster)?;
    csi::until_volumes(cluster, 0)?;
    let agent = cluster.agent()?.uid;
    let processes = ["caios-agent run", "/caios-keeper", csi::DRIVER];
    let processes = processes.map(|program| Process::of_program(&agent, program));
    let processes: Vec<_> = processes.into_iter().collect::<Result<_, _>>()?;
    let held = || processes.iter().map(|process| Held::by(*process));
    let before: Vec<_> = held().collect();
    for number in 1..=waves {
        mounted.extend(wave(cluster, &namespace, number)?);
    }
    until_one_listener_each(cluster)?;
    csi::until_volumes(cluster, 0)?;
    let mut now: Vec<_> = held().collect();
    let waited = wait::until("all hold what they held before", REAPED, || {
        now = held().collect();
        let pairs = now.iter().zip(&before);
        pairs
            .into_iter()
            .all(|(now, before)| now.is_back_at(before))
    });
    println!("{} Pods later: {before:?} became {now:?}", waves * WAVE);
    waited.with_context(|| format!("before: {before:?}; now: {now:?}"))?;
    csi::left_nothing(&mounted)?;
    csi::print_times(cluster, &mounted)?;
    // The keys of an identity go with its last Pod, here and in what the next agent would get, and
    // the tokens of a Pod with it.
    for (series, before) in [
        (IDENTITIES, identities),
        (KEPT, identities),
        (TOKENS, tokens),
    ] {
        let mut held = f64::NAN;
        let waited = wait::until("keys and tokens are gone", REAPED, || {
            held = cluster.agent_metric(series).unwrap_or(f64::NAN);
            held <= before
        });
        waited.with_context(|| format!("{series}: {before} before, {held} now"))?;
    }
    Ok(())
}

pub(crate) fn a_container_that_is_started_anew_keeps_its_credentials(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("restart")?;
    cluster.until_injected(&namespace, "trainer")?;
    let pod = cluster.idle_pod(&namespace, "restarted")?;
    let (_, before) = pod.credentials(None)?;
    Process::of_program(&pod.uid, "sleep 86400")?.kill()?;
    pod.until("has its container started anew", |pod| {
        let status = pod.pointer("/status/containerStatuses/0");
        let count = status
            .and_then(|status| status.pointer("/restartCount"))
            .and_then(Value::as_i64);
        let running = status.is_some_and(|status| status.pointer("/state/running").is_some());
        count == Some(1) && running
    })?;
    let (status, after) = pod.credentials(None)?;
    ensure!(status == 200, "{status} {after}");
    ensure!(
        before.pointer("/AccessKeyId") == after.pointer("/AccessKeyId"),
        "another key"
    );
    ensure!(
        pod.restarts("initContainerStatuses")? == 0,
        "it did not enrol again"
    );
    pod.delete()
}

pub(crate) fn a_pod_with_a_new_sandbox_enrols_again(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("sandbox")?;
    cluster.until_injected(&namespace, "trainer")?;
    let pod = cluster.idle_pod(&namespace, "sandbox")?;
    let main = Process::of_program(&pod.uid, "sleep 86400")?;
    let network = main.namespace("net")?;
    Process::of_program(&pod.uid, "/pause")?.kill()?;
    wait::until("the Pod runs in a new network", PHASE_DEADLINE, || {
        Process::of_program(&pod.uid, "sleep 86400")
            .and_then(|main| main.namespace("net"))
            .is_ok_and(|now| now != network)
    })?;
    pod.until_running()?;
    let (status, body) = pod.credentials(None)?;
    ensure!(status == 200, "{status} {body}");
    // The listener of the old sandbox is not kept beside it.
    until_one_listener_each(cluster)?;
    pod.delete()
}

pub(crate) fn every_container_of_a_pod_gets_the_same_keys(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("several")?;
    cluster.until_injected(&namespace, "trainer")?;
    let said = |name: &str| {
        let read = "import boto3; session = boto3.Session(); \
                    session.client('s3', endpoint_url='http://cwlota.com').list_buckets(); \
                    print(session.get_credentials().access_key)";
        container(name, &["python3", "-c", read])
    };
    let containers = [said("one"), said("two"), said("three")];
    let further = json!({ "restartPolicy": "Never", "initContainers": [said("zero")] });
    let pod = cluster.create_pod(&namespace, "several", &containers, &further)?;
    let phase = pod.ended()?;
    let logs = ["zero", "one", "two", "three"].map(|name| pod.log(name));
    let logs: Vec<String> = logs.into_iter().collect::<Result<_, _>>()?;
    ensure!(phase == "Succeeded", "{phase}: {logs:?}");
    let [first, others @ ..] = logs.as_slice() else {
        anyhow::bail!("no container has said anything");
    };
    ensure!(
        !first.is_empty() && others.iter().all(|key| key == first),
        "{logs:?}"
    );
    pod.delete()
}

pub(crate) fn a_job_that_lives_a_second_has_credentials(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("job")?;
    cluster.until_injected(&namespace, "trainer")?;
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "namespace": namespace, "name": "short" },
        "spec": {
            "completions": RUNS, "parallelism": RUNS, "backoffLimit": 0,
            "template": { "spec": reader() },
        },
    });
    cluster.control_plane().create(&job)?.accepted()?;
    let path = format!("/apis/batch/v1/namespaces/{namespace}/jobs/short");
    let mut status = Value::Null;
    let waited = wait::until("the Job is complete", PHASE_DEADLINE, || {
        let job = cluster
            .control_plane()
            .get(&path)
            .map(|job| job.body)
            .unwrap_or_default();
        status = job.pointer("/status").cloned().unwrap_or_default();
        status.pointer("/succeeded").and_then(Value::as_u64) == Some(RUNS)
            || status.pointer("/failed").is_some()
    });
    waited.map_err(|error| error.context(status.to_string()))?;
    ensure!(status.pointer("/failed").is_none(), "{status:#}");
    // A Job is gone with its Pods; the finished ones keep no listener.
    until_one_listener_each(cluster)
}

/// A Pod that reads an object once and ends.
fn reader() -> Value {
    let read = "import boto3, botocore.config as c; \
                s3 = boto3.client('s3', endpoint_url='http://cwlota.com', config=c.Config(s3={'addressing_style': 'virtual'})); \
                print(s3.get_object(Bucket='data', Key='object')['Body'].read().decode())";
    let mut spec = pod_spec(&[container("main", &["python3", "-c", read])]);
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("restartPolicy".to_owned(), "Never".into());
    }
    spec
}

pub(crate) fn a_run_of_a_cron_job_has_credentials(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("cron")?;
    cluster.until_injected(&namespace, "trainer")?;
    let job = json!({ "spec": { "backoffLimit": 0, "template": { "spec": reader() } } });
    let cron = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": { "namespace": namespace, "name": "often" },
        "spec": { "schedule": "0 0 1 1 *", "jobTemplate": job },
    });
    cluster.control_plane().create(&cron)?.accepted()?;
    // Runs of its own making would take a minute each to come.
    for run in 0..3 {
        cluster.typed(&format!(
            "kubectl -n {namespace} create job run-{run} --from=cronjob/often
             kubectl -n {namespace} wait job/run-{run} --for=condition=complete --timeout=90s"
        ))?;
    }
    // Its runs go with it.
    cluster.typed(&format!("kubectl -n {namespace} delete cronjob/often"))?;
    until_one_listener_each(cluster)
}

pub(crate) fn a_drained_node_that_is_let_in_again_has_its_pods_back(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("drain")?;
    cluster.until_injected(&namespace, "trainer")?;
    let labels = json!({ "app": "drained" });
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "namespace": namespace, "name": "drained" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": pod_spec(&[container("main", &["sleep", "86400"])]),
            },
        },
    });
    cluster.control_plane().create(&deployment)?.accepted()?;
    let available =
        format!("kubectl -n {namespace} rollout status deployment/drained --timeout=90s");
    cluster.typed(&available)?;
    let old: Vec<String> = cluster
        .pods(&namespace, "app=drained")?
        .into_iter()
        .map(|pod| pod.uid)
        .collect();
    // The injector has no other node to go to: it stays, as what the node itself runs.
    let drained = cluster.typed(&format!(
        "kubectl drain {NODE} --ignore-daemonsets --delete-emptydir-data \
             --pod-selector app=drained --timeout=90s"
    ));
    let let_in = cluster.typed(&format!("kubectl uncordon {NODE}"));
    drained?;
    let_in?;
    cluster.typed(&available)?;
    let new = cluster.pods(&namespace, "app=drained")?;
    ensure!(new.len() == 2, "{} Pods", new.len());
    for pod in &new {
        ensure!(!old.contains(&pod.uid), "{} was not evicted", pod.name);
        pod.until_running()?;
        let (status, body) = pod.credentials(None)?;
        ensure!(status == 200, "{status} {body}");
    }
    cluster.typed(&format!("kubectl -n {namespace} delete deployment/drained"))?;
    for pod in &new {
        pod.gone()?;
    }
    until_one_listener_each(cluster)
}
