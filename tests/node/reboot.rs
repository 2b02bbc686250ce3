//! A node that loses its power: nothing in memory is left, and all is as before when it is on again.

#![expect(clippy::print_stdout, reason = "what was measured is what it prints")]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use serde_json::{Value, json};
use shared::contract;
use tests::cluster::{Cluster, NODE, PHASE_DEADLINE, Process, Workload, container, pod_spec};
use tests::wait;
use tokio::time::Instant;

use crate::delivery::keys;
use crate::{agents, csi};

/// A Pod that has no listener for three seconds is reported, where it takes a minute by default.
const GRACE: &str = "agent.extraArgs[0]=--pod-grace=3s";
const REPLICAS: usize = 2;
/// How a Deployment's Pods reach their agent, which is its name too.
const HOST_PATH: &str = "hostPath";
const CSI: &str = "csi";
/// Where the kubelet has what is of Pods, and where drivers are.
const PODS: &str = "/var/lib/kubelet/pods";
const PLUGINS: &str = "/var/lib/kubelet/plugins";
const REGISTRY: &str = "/var/lib/kubelet/plugins_registry";
const WITHOUT_LISTENER: &str = "caios_agent_pods_without_listener";

pub(crate) fn pods_come_back_by_themselves_when_their_node_reboots(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    agents::upgraded(cluster, GRACE)?;
    let namespace = cluster.workload_namespace("reboot")?;
    cluster.until_injected(&namespace, "trainer")?;
    let mut pods = Vec::new();
    for way in [HOST_PATH, CSI] {
        pods.extend(deployed(cluster, &namespace, way)?);
    }
    until_all_are_served(cluster, &pods, 0)?;
    let exchanges = || cluster.coreweave().exchanges(&namespace);
    ensure!(
        exchanges() == 1,
        "{} exchanges of one identity",
        exchanges()
    );

    // Two that are not to come back: one is asked to end, one is gone from the API.
    let asked = bare(cluster, &namespace, "asked")?;
    let forced = bare(cluster, &namespace, "forced")?;
    let agent = cluster.agent()?.uid;
    let started = Instant::now();
    cluster.keep_logs();
    cluster.power_off()?;
    asked.ask_to_end()?;
    cluster.typed(&format!(
        "kubectl -n {namespace} delete pod {} --force --grace-period 0",
        forced.name
    ))?;
    cluster.power_on()?;
    until_all_are_served(cluster, &pods, 1)?;
    println!(
        "    all have keys {:.1} s after the power went",
        started.elapsed().as_secs_f64()
    );
    ensure!(cluster.agent()?.uid == agent, "another Pod of the agent");
    // All keys were in memory alone, and one exchange makes them for all again.
    ensure!(exchanges() == 2, "{} exchanges", exchanges());
    asked.gone()?;
    csi::left_nothing(&[asked.uid, forced.uid])?;
    nothing_is_stale(cluster)?;

    comes_late(cluster, &pods)?;
    until_all_are_served(cluster, &pods, 2)?;
    nothing_is_stale(cluster)?;
    none_is_missed(cluster, &pods)?;

    for way in [HOST_PATH, CSI] {
        let name = way.to_lowercase();
        cluster.typed(&format!("kubectl -n {namespace} delete deployment/{name}"))?;
    }
    pods.iter().try_for_each(Workload::gone)?;
    csi::until_volumes(cluster, 0)?;
    let uids: Vec<_> = pods.into_iter().map(|pod| pod.uid).collect();
    csi::left_nothing(&uids)?;
    nothing_is_stale(cluster)
}

/// What is in each Pod: it says its key when it starts, after a call to S3 that is signed with it. One
/// that fails ends, and is counted as a restart.
fn asker() -> Value {
    let say = "python3 -c 'import boto3; session = boto3.Session(); \
               session.client(\"s3\", endpoint_url=\"http://cwlota.com\").list_buckets(); \
               print(session.get_credentials().access_key)' && exec sleep 86400";
    container("main", &["sh", "-c", say])
}

/// Makes a Deployment whose Pods reach their agent in this way; its Pods.
fn deployed<'a>(
    cluster: &'a Cluster,
    namespace: &str,
    way: &str,
) -> anyhow::Result<Vec<Workload<'a>>> {
    let name = way.to_lowercase();
    let labels = json!({ "app": name });
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "replicas": REPLICAS,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": { "caios.coreweave.com/volume": way },
                },
                "spec": pod_spec(&[asker()]),
            },
        },
    });
    cluster.control_plane().create(&deployment)?.accepted()?;
    cluster.typed(&format!(
        "kubectl -n {namespace} rollout status deployment/{name} --timeout=90s"
    ))?;
    let pods = cluster.pods(namespace, &format!("app={name}"))?;
    ensure!(pods.len() == REPLICAS, "{} Pods", pods.len());
    Ok(pods)
}

/// A Pod with a CSI volume that nobody makes anew.
fn bare<'a>(cluster: &'a Cluster, namespace: &str, name: &str) -> anyhow::Result<Workload<'a>> {
    let asks = json!({ "caios.coreweave.com/volume": CSI });
    let idle = [container("main", &["sleep", "86400"])];
    let pod = cluster.annotated_pod(namespace, name, &asks, &idle, &json!({}))?;
    pod.until_running()?;
    Ok(pod)
}

/// Waits until each Pod runs for the time of this number and has used a key; none may have been
/// started more often than the node was.
fn until_all_are_served(
    cluster: &Cluster,
    pods: &[Workload<'_>],
    boots: i64,
) -> anyhow::Result<()> {
    for pod in pods {
        let count = |pod: &Value| {
            let status = pod.pointer("/status/containerStatuses/0")?;
            status.pointer("/state/running")?;
            status.pointer("/restartCount")?.as_i64()
        };
        pod.until("runs again", |pod| count(pod) >= Some(boots))
            .with_context(|| said_of(pod))?;
        let mut log = String::new();
        let what = format!("{} has used its key", pod.name);
        wait::until(&what, PHASE_DEADLINE, || {
            log = pod.log("main").unwrap_or_default();
            !log.trim().is_empty()
        })?;
        let restarts = count(&pod.object()?);
        ensure!(
            restarts == Some(boots),
            "{} was started {restarts:?} times anew: {log}",
            pod.name
        );
        let key = keys(pod).with_context(|| pod.name.clone())?;
        ensure!(log.trim() == key, "{} used {log}, and has {key}", pod.name);
    }
    csi::until_volumes(cluster, pods.len() / 2)?;
    agents::until_listeners(cluster, u32::try_from(pods.len())?)
}

/// What is known of a Pod that does not run.
fn said_of(pod: &Workload<'_>) -> String {
    let events = pod.events().unwrap_or_default();
    let log = pod.log(contract::ENROLL_CONTAINER).unwrap_or_default();
    format!("its Events: {events:#?}\nits init container: {log}")
}

/// Reboots the node again, and has its agent come when all Pods wait for it already.
fn comes_late(cluster: &Cluster, pods: &[Workload<'_>]) -> anyhow::Result<()> {
    let logged = cluster.kubelet_log_length();
    cluster.keep_logs();
    cluster.power_off()?;
    let old = cluster.agent()?;
    agents::kept_away(cluster)?;
    cluster.power_on()?;
    let (host_path, csi) = pods.split_at(REPLICAS);
    let waited = || {
        old.gone()?;
        // Its init container runs and says what it waits for.
        for pod in host_path {
            let what = format!("{} waits for the agent", pod.name);
            wait::until(&what, PHASE_DEADLINE, || {
                Process::of_program(&pod.uid, "/caios-enroll").is_ok()
                    && pod
                        .log(contract::ENROLL_CONTAINER)
                        .is_ok_and(|log| log.contains("does not exist yet"))
            })
            .with_context(|| said_of(pod))?;
        }
        // Nothing of it runs, and the kubelet says what it waits for.
        for pod in csi {
            let what = format!("{} waits for the driver", pod.name);
            wait::until(&what, PHASE_DEADLINE, || {
                let log = cluster.kubelet_log_since(logged);
                let missed = "not found in the list of registered CSI drivers";
                let mut lines = log.lines();
                lines.any(|line| line.contains(missed) && line.contains(&pod.uid))
            })?;
            let processes = Process::of_pod(&pod.uid);
            ensure!(processes.is_empty(), "{} runs {processes:?}", pod.name);
        }
        anyhow::Ok(())
    };
    let waited = waited();
    agents::let_back(cluster)?;
    waited
}

/// Checks that the agent knows of nobody who lacks anything, and has told nobody so.
fn none_is_missed(cluster: &Cluster, pods: &[Workload<'_>]) -> anyhow::Result<()> {
    agents::until_counted(cluster, WITHOUT_LISTENER, 0, PHASE_DEADLINE)?;
    let status = cluster
        .agent()?
        .exec("agent", &["/caios-agent", "status"])?;
    ensure!(!status.contains("POD THAT IS NOT SERVED"), "{status}");
    for pod in pods {
        ensure!(status.contains(&pod.name), "no {} in:\n{status}", pod.name);
        let events = pod.events()?;
        let lost = events.iter().any(|event| event.contains("ListenerLost"));
        ensure!(!lost, "{} was told: {events:#?}", pod.name);
    }
    Ok(())
}

/// Checks that whatever is of a Pod is of one that there is, and that somebody listens at each socket.
fn nothing_is_stale(cluster: &Cluster) -> anyhow::Result<()> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}");
    let mut left = Vec::new();
    let waited = wait::until("nothing of other Pods is left", PHASE_DEADLINE, || {
        let pods = cluster.control_plane().get(&path).map(|pods| pods.body);
        let pods = pods.unwrap_or_default();
        let pods = pods.pointer("/items").and_then(Value::as_array);
        let uid = |pod: &Value| Some(pod.pointer("/metadata/uid")?.as_str()?.to_owned());
        let uids: BTreeSet<String> = pods.into_iter().flatten().filter_map(uid).collect();
        left = names(Path::new(PODS));
        left.retain(|name| !uids.contains(name));
        left.is_empty()
    });
    waited.with_context(|| format!("of {left:?}"))?;
    let public = Path::new(contract::PUBLIC_DIRECTORY);
    let private = public.with_file_name(contract::PRIVATE_NAME);
    let driver = Path::new(PLUGINS).join(contract::CSI_DRIVER);
    for directory in [public, &private, &driver, Path::new(REGISTRY)] {
        let sockets = names(directory);
        ensure!(!sockets.is_empty(), "nothing is in {}", directory.display());
        for socket in sockets {
            is_live(&directory.join(socket))?;
        }
    }
    for pod in names(Path::new(PODS)) {
        let volumes = Path::new(PODS).join(pod).join("volumes/kubernetes.io~csi");
        for volume in names(&volumes) {
            let mount = volumes.join(volume).join("mount");
            for socket in names(&mount) {
                is_live(&mount.join(socket))?;
            }
        }
    }
    Ok(())
}

/// What is in a directory; nothing where there is none.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// Checks that a path is that of a socket at which somebody listens, of whatever type.
fn is_live(socket: &Path) -> anyhow::Result<()> {
    let kind = fs::symlink_metadata(socket)?.file_type();
    ensure!(kind.is_socket(), "{} is no socket", socket.display());
    // The path of a volume is longer than a socket's address may be.
    let directory = socket.parent().context("a file is in a directory")?;
    let directory = fs::File::open(directory)?;
    let name = socket.file_name().context("a file has a name")?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    match UnixStream::connect(short) {
        // EPROTOTYPE: it listens, for another type.
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("nobody is at {}", socket.display())),
    }
}
