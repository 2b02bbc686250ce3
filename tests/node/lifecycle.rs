//! Pods as they come, restart and go.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tests::cluster::{Cluster, PHASE_DEADLINE, Process, container, pod_spec};
use tests::wait;

const LISTENERS: &str = "caios_agent_listeners{delivery=\"handoff\"}";
/// How long the agent may take to notice that a Pod is gone.
const REAPED: Duration = Duration::from_secs(30);

/// How many Pods of a Job run at once.
const RUNS: u64 = 5;

/// The agent's process.
fn agent(cluster: &Cluster) -> anyhow::Result<Process> {
    Process::of_program(&cluster.agent()?.uid, "caios-agent run")
}

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

pub(crate) fn pods_that_come_and_go_leave_nothing_in_the_agent(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    const PODS: u32 = 15;
    let namespace = cluster.workload_namespace("churn")?;
    cluster.until_injected(&namespace, "trainer")?;
    // What the first Pod of an identity leaves, a connection to CoreWeave, is no Pod's.
    let first = cluster.idle_pod(&namespace, "first")?;
    first.delete()?;
    until_one_listener_each(cluster)?;
    let agent = agent(cluster)?;
    let before = agent.descriptors();
    let mut pods = Vec::new();
    for number in 0..PODS {
        let name = format!("pod-{number}");
        pods.push(cluster.create_pod(
            &namespace,
            &name,
            &[container("main", &["sleep", "86400"])],
            &json!({}),
        )?);
    }
    for pod in &pods {
        pod.until_running()?;
    }
    until_one_listener_each(cluster)?;
    for pod in &pods {
        pod.ask_to_end()?;
    }
    for pod in &pods {
        pod.gone()?;
    }
    until_one_listener_each(cluster)?;
    let mut now = agent.descriptors();
    let waited = wait::until(
        "the agent has as many descriptors as before",
        REAPED,
        || {
            now = agent.descriptors();
            now <= before
        },
    );
    waited.map_err(|error| error.context(format!("{before} descriptors before, {now} now")))
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
    let read = "import boto3, botocore.config as c; \
                s3 = boto3.client('s3', endpoint_url='http://cwlota.com', config=c.Config(s3={'addressing_style': 'virtual'})); \
                print(s3.get_object(Bucket='data', Key='object')['Body'].read().decode())";
    let mut template = pod_spec(&[container("main", &["python3", "-c", read])]);
    if let Some(template) = template.as_object_mut() {
        template.insert("restartPolicy".to_owned(), "Never".into());
    }
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "namespace": namespace, "name": "short" },
        "spec": {
            "completions": RUNS, "parallelism": RUNS, "backoffLimit": 0,
            "template": { "spec": template },
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
