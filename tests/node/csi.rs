//! Pods that reach their agent through a CSI volume, by the calls of a real kubelet.

#![expect(clippy::print_stdout, reason = "what was measured is what it prints")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use shared::contract;
use standin::{Behaviour, Scope};
use tests::chart::commands;
use tests::cluster::{Cluster, CoreWeave, PHASE_DEADLINE, Workload, container, restricted};
use tests::wait;

use crate::{agents, delivery};

const README: &str = include_str!("../../README.md");
/// The driver's process, in the agent's Pod.
pub(crate) const DRIVER: &str = "/caios-agent csi";
const VOLUMES: &str = "caios_agent_csi_volumes";
/// How long driver and agent may take to notice what they are not told.
const NOTICED: Duration = Duration::from_secs(30);
const RESTRICTED: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

/// A namespace whose Pods of `trainer` get CSI volumes.
pub(crate) fn namespace(cluster: &Cluster, prefix: &str) -> anyhow::Result<String> {
    let namespace = cluster.control_plane().namespace(prefix, &[])?;
    account(cluster, &namespace, "trainer", &[])?;
    cluster.coreweave().grant(&namespace, "trainer");
    cluster.until_injected(&namespace, "trainer")?;
    Ok(namespace)
}

/// A ServiceAccount whose Pods get CSI volumes; nothing is granted to it.
fn account(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    further: &[(&str, &str)],
) -> anyhow::Result<()> {
    let csi = [
        ("caios.coreweave.com/inject", "true"),
        ("caios.coreweave.com/volume", "csi"),
    ];
    let annotations = [&csi, further].concat();
    cluster
        .control_plane()
        .service_account(namespace, name, &annotations)
}

/// The directory that the driver has made for a Pod.
pub(crate) fn volume(pod: &Workload<'_>, name: &str) -> PathBuf {
    let pods = Path::new("/var/lib/kubelet/pods").join(&pod.uid);
    pods.join("volumes/kubernetes.io~csi")
        .join(name)
        .join("mount")
}

/// Waits until the agent serves so many volumes.
pub(crate) fn until_volumes(cluster: &Cluster, number: usize) -> anyhow::Result<()> {
    agents::until_counted(cluster, VOLUMES, u32::try_from(number)?, NOTICED)
}

/// A call of the kubelet, as the driver has logged it.
pub(crate) struct Call {
    pub(crate) method: String,
    /// The Pod's uid.
    pub(crate) pod: String,
    outcome: String,
    milliseconds: f64,
}

impl Call {
    /// Whether the driver did what was asked.
    pub(crate) fn is_done(&self) -> bool {
        self.outcome == "done"
    }
}

/// The calls that the driver's container has logged since it was started.
pub(crate) fn calls(cluster: &Cluster) -> anyhow::Result<Vec<Call>> {
    let log = cluster.agent()?.log("csi")?;
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let calls = lines.filter_map(|line| {
        let text = |name: &str| Some(line.get(name)?.as_str()?.to_owned());
        Some(Call {
            method: text("method")?,
            pod: text("pod_uid")?,
            outcome: text("outcome")?,
            milliseconds: line.get("elapsed_ms")?.as_f64()?,
        })
    });
    Ok(calls.collect())
}

pub(crate) fn a_pod_of_a_restricted_namespace_lists_its_buckets(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let control_plane = cluster.control_plane();
    let namespace = control_plane.namespace("restricted", &[RESTRICTED])?;
    cluster.service_account(&namespace, "trainer")?;
    cluster.until_injected(&namespace, "trainer")?;
    // The Pod of the tutorial, which needs a user and a home to pass there.
    let tutorial = commands(README, "5. Run and verify");
    let (_, pod) = tutorial
        .split_once("apply -f - <<'POD'\n")
        .context("no Pod")?;
    let (pod, _) = pod.split_once("POD\n").context("no Pod that ends")?;
    let mut pod: Value = serde_saphyr::from_str(pod)?;
    let spec = pod.pointer("/spec").context("a Pod has a spec")?;
    let spec = restricted(spec);
    let member = |pod: &mut Value, at: &str, value: Value| {
        let (parent, name) = at.rsplit_once('/').unwrap_or_default();
        let parent = pod.pointer_mut(parent).and_then(Value::as_object_mut);
        parent.map(|parent| parent.insert(name.to_owned(), value));
    };
    member(&mut pod, "/spec", spec);
    member(&mut pod, "/metadata/namespace", namespace.as_str().into());
    let home = json!([{ "name": "HOME", "value": "/tmp" }]);
    member(&mut pod, "/spec/containers/0/env", home);
    member(
        &mut pod,
        "/spec/containers/0/imagePullPolicy",
        "Never".into(),
    );

    // With the other volume the API server refuses it, and our warning says what helps.
    let mut other = pod.clone();
    let asks = json!({ "caios.coreweave.com/volume": "hostPath" });
    member(&mut other, "/metadata/annotations", asks);
    let refused = control_plane.create(&other)?;
    ensure!(
        refused.code == 403 && refused.message().contains("hostPath"),
        "{} {}",
        refused.code,
        refused.message()
    );
    let cure = "annotate the Pod with caios.coreweave.com/volume: csi";
    ensure!(
        refused
            .warnings
            .iter()
            .any(|warning| warning.contains(cure)),
        "{:?}",
        refused.warnings
    );

    control_plane.create(&pod)?.accepted()?;
    let pod = cluster.existing_pod(&namespace, "caios-test")?;
    let (phase, log) = (pod.ended()?, pod.log("aws")?);
    ensure!(phase == "Succeeded", "{phase}: {log}");
    let buckets: Value = serde_json::from_str(&log).with_context(|| log.clone())?;
    ensure!(
        buckets.pointer("/Buckets/0/Name") == Some(&"data".into()),
        "{buckets}"
    );
    pod.delete()
}

pub(crate) fn pods_wait_for_credentials_and_their_events_say_why(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.control_plane().namespace("waits", &[])?;
    let waits = [("caios.coreweave.com/wait-for-credentials", "true")];
    for name in ["refused", "hangs"] {
        account(cluster, &namespace, name, &waits)?;
        cluster.until_injected(&namespace, name)?;
    }
    let coreweave = cluster.coreweave();
    coreweave.grant(&namespace, "hangs");
    let hanging = Scope {
        identity: Some(format!("system:serviceaccount:{namespace}:hangs")),
        ..Scope::default()
    };
    let standin = coreweave.standin();
    standin.behave(hanging.clone(), Behaviour::Hang);
    let idle = [container("main", &["sleep", "86400"])];
    let pod = |name: &str| {
        cluster.create_pod(
            &namespace,
            name,
            &idle,
            &json!({ "serviceAccountName": name }),
        )
    };
    let told = || {
        let (refused, hangs) = (pod("refused")?, pod("hangs")?);
        // Whom to grant what, and for whom CoreWeave does not answer.
        let principal = CoreWeave::principal(&namespace, "refused");
        let needed = ["FailedMount", "cwobject:CreateAccessKeyOIDC", &principal];
        let event = refused.until_event(&needed)?;
        println!("    {event}");
        let principal = CoreWeave::principal(&namespace, "hangs");
        let event = hangs.until_event(&["FailedMount", "no credentials within", &principal])?;
        println!("    {event}");
        for pod in [&refused, &hangs] {
            let object = pod.object()?;
            let statuses = [
                "/status/initContainerStatuses/0",
                "/status/containerStatuses/0",
            ];
            for status in statuses {
                let waiting = object.pointer(&format!("{status}/state/waiting"));
                ensure!(waiting.is_some(), "{status} of {} has begun", pod.name);
            }
            ensure!(
                !volume(pod, contract::AGENT_VOLUME).exists(),
                "{}",
                pod.name
            );
        }
        anyhow::Ok([refused, hangs])
    };
    let told = told();
    standin.behave(hanging, Behaviour::Normal);
    coreweave.grant(&namespace, "refused");
    // Whoever waits starts by itself, and its key is there when it does.
    let pods = told?;
    for pod in &pods {
        pod.until_running()?;
        delivery::keys(pod).with_context(|| pod.name.clone())?;
        pod.ask_to_end()?;
    }
    pods.iter().try_for_each(Workload::gone)
}

/// Checks that no directory is left of Pods that have ended.
pub(crate) fn left_nothing(uids: &[String]) -> anyhow::Result<()> {
    let pods = Path::new("/var/lib/kubelet/pods");
    let mut left = Vec::new();
    let waited = wait::until("no directory of these Pods is left", PHASE_DEADLINE, || {
        left = uids.iter().filter(|uid| pods.join(uid).exists()).collect();
        left.is_empty()
    });
    waited.with_context(|| format!("of {left:?}"))
}

/// How long the driver took for the volume of each of these Pods, in milliseconds, the shortest first.
pub(crate) fn times(cluster: &Cluster, uids: &[String]) -> anyhow::Result<Vec<f64>> {
    // The first call for each Pod; the others ask whether all is well.
    let mut first = BTreeMap::new();
    for call in calls(cluster)? {
        let is_done = call.method == "NodePublishVolume" && call.is_done();
        if is_done && uids.contains(&call.pod) {
            first.entry(call.pod).or_insert(call.milliseconds);
        }
    }
    let mut times: Vec<f64> = first.into_values().collect();
    times.sort_by(f64::total_cmp);
    ensure!(times.len() == uids.len(), "{} calls", times.len());
    Ok(times)
}

/// Prints how long the driver took for the volumes of Pods.
pub(crate) fn print_times(cluster: &Cluster, uids: &[String]) -> anyhow::Result<()> {
    let times = times(cluster, uids)?;
    let at = |share: usize| times.get((times.len() - 1) * share / 100);
    println!(
        "{} publishes: p50 {:.1} ms, p99 {:.1} ms, in the driver",
        times.len(),
        at(50).context("no call")?,
        at(99).context("no call")?,
    );
    Ok(())
}

pub(crate) fn a_volume_serves_its_own_pod_and_no_other(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = namespace(cluster, "hostile")?;
    until_volumes(cluster, 0)?;
    // What no container mounts the kubelet does not publish.
    let mut main = container("main", &["sleep", "86400"]);
    let mounted = json!([{ "name": "own", "mountPath": "/own" }]);
    if let Some(main) = main.as_object_mut() {
        main.insert("volumeMounts".to_owned(), mounted);
    }
    let main = [main];
    let victim = cluster.idle_pod(&namespace, "victim")?;
    let stolen = victim.token()?;
    // A second volume of the driver's, with what only a kubelet may say, and said of another Pod.
    let tokens = json!({ "": { "token": stolen, "expirationTimestamp": "" } }).to_string();
    let attributes = json!({
        "csi.storage.k8s.io/pod.uid": victim.uid,
        "csi.storage.k8s.io/pod.name": victim.name,
        "csi.storage.k8s.io/serviceAccount.tokens": tokens,
    });
    let volumes = json!({ "volumes": [{
        "name": "own",
        "csi": {
            "driver": contract::CSI_DRIVER,
            "readOnly": true,
            "volumeAttributes": attributes,
        },
    }] });
    let thief = cluster.create_pod(&namespace, "thief", &main, &volumes)?;
    thief.until_running()?;
    until_volumes(cluster, 3)?;
    let own = delivery::keys(&thief)?;
    ensure!(own == delivery::keys(&victim)?, "two keys of one identity");
    // Of the same ServiceAccount, so that nothing but the Pod tells them apart: in its network, and at
    // the socket of its own volume.
    let (status, _) = thief.credentials(Some(&stolen))?;
    ensure!(
        [401, 403].contains(&status),
        "the token of another Pod: {status}"
    );
    let ask = |token: &str| delivery::dialled(&thief, "/own/agent.sock", token);
    let answer = ask(&thief.token()?)?;
    ensure!(answer.contains(" 200 "), "its own token: {answer}");
    let answer = ask(&stolen)?;
    let refused = answer.contains(" 401 ") || answer.contains(" 403 ");
    ensure!(refused, "the token of another Pod: {answer}");
    ensure!(!answer.contains("SecretAccessKey"), "it gets a key");
    let written = thief.exec("main", &["touch", "/own/other.sock"]);
    ensure!(written.is_err(), "a Pod can write to its volume");

    // One that cannot be had as it is wanted, and an attribute that makes no sense.
    let mut neither = Vec::new();
    for (name, read_only, attribute, why) in [
        ("writable", false, "true", "readOnly: true"),
        ("senseless", true, "perhaps", "must be"),
    ] {
        let volume = json!({ "volumes": [{
            "name": "own",
            "csi": {
                "driver": contract::CSI_DRIVER,
                "readOnly": read_only,
                "volumeAttributes": { "caios.coreweave.com/wait-for-credentials": attribute },
            },
        }] });
        let pod = cluster.create_pod(&namespace, name, &main, &volume)?;
        pod.until_event(&["FailedMount", why])?;
        pod.ask_to_end()?;
        neither.push(pod);
    }
    neither.iter().try_for_each(Workload::gone)?;
    // Both volumes go with the Pod, and the other Pod notices nothing.
    thief.delete()?;
    until_volumes(cluster, 1)?;
    ensure!(own == delivery::keys(&victim)?, "other keys");
    victim.delete()?;
    until_volumes(cluster, 0)
}

/// Creates a Pod that says, when it starts, which key it has.
pub(crate) fn sayer<'a>(
    cluster: &'a Cluster,
    namespace: &str,
    name: &str,
) -> anyhow::Result<Workload<'a>> {
    let say = "python3 -c 'import boto3; print(boto3.Session().get_credentials().access_key)' \
               && exec sleep 86400";
    let main = container("main", &["sh", "-c", say]);
    cluster.create_pod(namespace, name, &[main], &json!({}))
}

/// Waits until such a Pod runs and has said its key; it must have had one when it started.
pub(crate) fn has_said(pod: &Workload<'_>) -> anyhow::Result<()> {
    pod.until_running()?;
    let mut said = String::new();
    let what = format!("{} says its key", pod.name);
    wait::until(&what, PHASE_DEADLINE, || {
        said = pod.log("main").unwrap_or_default();
        !said.trim().is_empty()
    })?;
    let restarts = pod.restarts("containerStatuses")?;
    ensure!(
        restarts == 0,
        "{} was started {restarts} times anew: {said}",
        pod.name
    );
    Ok(())
}
