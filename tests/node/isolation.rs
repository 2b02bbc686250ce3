//! What a Pod can reach, and what the agent holds: read from the real processes.

use anyhow::{Context as _, ensure};
use serde_json::json;
use shared::contract;
use tests::cluster::{Cluster, Process, container};

use crate::csi::DRIVER;

/// As the chart has it.
const DIRECTORY: &str = "/run/caios-agent";

pub(crate) fn an_agent_holds_no_privilege(cluster: &Cluster) -> anyhow::Result<()> {
    let pod = cluster.agent()?.uid;
    // The worker, the supervisor and the keeper.
    for program in ["caios-agent run", "/caios-agent supervise", "/caios-keeper"] {
        let process = Process::of_program(&pod, program)?;
        holds_no_privilege(cluster, process, "65532", &[DIRECTORY]).context(program)?;
    }
    let heir = Process::heir(&pod)?;
    holds_no_privilege(cluster, heir, "65532", &[DIRECTORY]).context("the worker's heir")?;
    // The driver is root, which the kubelet's directories belong to.
    let written = [
        "pods",
        "plugins_registry",
        "plugins/csi.caios.coreweave.com",
    ];
    let written = written.map(|name| format!("/var/lib/kubelet/{name}"));
    let driver = Process::of_program(&pod, DRIVER)?;
    let written = written.each_ref().map(String::as_str);
    holds_no_privilege(cluster, driver, "0", &written).context(DRIVER)
}

/// Checks that a process has nothing of root but the user, if that, and writes only below `written`.
fn holds_no_privilege(
    cluster: &Cluster,
    agent: Process,
    user: &str,
    written: &[&str],
) -> anyhow::Result<()> {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let held = agent.status(set);
        ensure!(held == "0000000000000000", "{set} is {held}");
    }
    let user = [user; 4].join(" ");
    for (name, wanted) in [
        ("Uid", user.as_str()),
        ("Gid", user.as_str()),
        ("NoNewPrivs", "1"),
        // A filter: the runtime's default.
        ("Seccomp", "2"),
    ] {
        let status = agent.status(name);
        ensure!(status == wanted, "{name} is {status}");
    }
    for kind in ["net", "pid", "mnt", "ipc", "uts"] {
        let (own, node) = (agent.namespace(kind)?, Process::own().namespace(kind)?);
        ensure!(own != node, "it shares the node's {kind} namespace");
    }
    let kubelet_network = cluster.control_plane().network();
    let node = kubelet_network.call(|| std::fs::read_link("/proc/thread-self/ns/net"))?;
    ensure!(
        agent.namespace("net")? != node,
        "it is in the node's network"
    );
    let mounts = agent.mounts();
    let root = mounts.iter().find(|(at, _)| at == "/");
    ensure!(
        root.is_some_and(|(_, options)| options.split(',').any(|option| option == "ro")),
        "its root is {root:?}"
    );
    // Those of the kernel are root's; the sockets' directory is its own, and the kubelet's files say
    // who may write to them.
    let expected = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    let kernel = ["/proc", "/dev", "/sys"];
    let unexpected: Vec<_> = mounts
        .iter()
        .filter(|(_, options)| options.split(',').any(|option| option == "rw"))
        .map(|(at, _)| at.as_str())
        .filter(|at| {
            !kernel
                .iter()
                .chain(written)
                .any(|below| at.starts_with(below))
        })
        .filter(|at| !expected.contains(at))
        .collect();
    ensure!(unexpected.is_empty(), "it can write to {unexpected:?}");
    Ok(())
}

pub(crate) fn a_token_of_one_pod_is_refused_in_another(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("isolation")?;
    cluster.until_injected(&namespace, "trainer")?;
    // Of the same ServiceAccount, so that nothing but the Pod tells them apart.
    let (own, other) = (
        cluster.idle_pod(&namespace, "own")?,
        cluster.idle_pod(&namespace, "other")?,
    );
    let stolen = other.token()?;
    let (status, body) = own.credentials(Some(&stolen))?;
    ensure!(
        status == 401 || status == 403,
        "the token of another Pod: {status} {body}"
    );
    ensure!(
        body.pointer("/SecretAccessKey").is_none(),
        "the token of another Pod gets a key"
    );
    for pod in [&own, &other] {
        let (status, body) = pod.credentials(None)?;
        ensure!(
            status == 200,
            "its own token: {status} {}",
            body.pointer("/message").unwrap_or(&body)
        );
    }
    own.ask_to_end()?;
    other.delete()?;
    own.gone()
}

pub(crate) fn a_pod_reaches_nothing_of_the_node_but_what_enrols_it(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("reach")?;
    let pod = cluster.idle_pod(&namespace, "plain")?;
    let mounts = pod.exec("main", &["cat", "/proc/mounts"])?;
    ensure!(
        !mounts.contains("caios-agent"),
        "a container sees the node: {mounts}"
    );
    pod.delete()?;

    // What a Pod may mount itself where hostPath is allowed: as any user but root, it changes nothing.
    let mut main = container("main", &["sleep", "86400"]);
    let mounted = json!([{ "name": "node", "mountPath": "/node" }]);
    if let Some(main) = main.as_object_mut() {
        main.insert("volumeMounts".to_owned(), mounted);
        main.insert(
            "securityContext".to_owned(),
            json!({ "runAsUser": 1000, "runAsGroup": 1000 }),
        );
    }
    let volume = json!({ "volumes": [{ "name": "node", "hostPath": { "path": DIRECTORY } }] });
    let pod = cluster.create_pod(&namespace, "curious", &[main], &volume)?;
    pod.until_running()?;
    ensure!(
        pod.exec("main", &["ls", "/node/public"])?
            .contains("enroll.sock")
    );
    for (what, command) in [
        (
            "replace enroll.sock",
            "touch /tmp/own && mv /tmp/own /node/public/enroll.sock",
        ),
        ("remove enroll.sock", "rm /node/public/enroll.sock"),
        ("put a socket beside it", "touch /node/public/other.sock"),
        ("replace the directory", "mv /node/public /node/other"),
        ("look into private", "ls /node/private"),
    ] {
        let done = pod.exec("main", &["sh", "-c", command]);
        let Err(error) = done else {
            anyhow::bail!("a Pod can {what}");
        };
        let error = format!("{error:#}");
        ensure!(error.contains("Permission denied"), "to {what}: {error}");
    }
    pod.delete()
}

pub(crate) fn a_pod_can_take_no_port_and_learns_of_no_other_pod(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("nosy")?;
    cluster.service_account(&namespace, "secretive")?;
    for account in ["trainer", "secretive"] {
        cluster.until_injected(&namespace, account)?;
    }
    let idle = [container("main", &["sleep", "86400"])];
    let other = json!({ "serviceAccountName": "secretive" });
    let other = cluster.create_pod(&namespace, "hidden", &idle, &other)?;
    other.until_running()?;
    let pod = cluster.idle_pod(&namespace, "nosy")?;
    // Its own port is the agent's, on every address; of another Pod's it does not reach any.
    for address in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
        let family = if address.contains(':') {
            "AF_INET6"
        } else {
            "AF_INET"
        };
        let bind = format!(
            "import socket; s = socket.socket(socket.{family}); \
             s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); \
             s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); \
             s.bind(('{address}', {})); s.listen()",
            contract::DEFAULT_PORT
        );
        let Err(error) = pod.exec("main", &["python3", "-c", &bind]) else {
            anyhow::bail!("a Pod can listen on {address} in the agent's place");
        };
        let error = format!("{error:#}");
        ensure!(
            error.contains("Address already in use"),
            "{address}: {error}"
        );
    }
    let agent = cluster.agent()?.object()?;
    let agent = agent.pointer("/status/podIP").and_then(|it| it.as_str());
    let agent = agent.context("the agent has no address")?;
    let (own, others) = (pod.token()?, other.token()?);
    let ask = |url: &str, token: &str| {
        let header = format!("Authorization: {token}");
        pod.exec("main", &["python3", "-c", GET, url, &header])
    };
    let endpoint = format!("http://127.0.0.1:{}/v1/credentials", contract::DEFAULT_PORT);
    for (url, token) in [
        (format!("http://{agent}:9469/metrics"), &own),
        (format!("http://{agent}:9469/readyz"), &own),
        (format!("http://{agent}:9469/status"), &own),
        (endpoint.clone(), &own),
        (endpoint.clone(), &String::new()),
        (endpoint.replace("credentials", "status"), &own),
    ] {
        let said = ask(&url, token)?;
        for hidden in ["secretive", "hidden", other.uid.as_str(), others.as_str()] {
            ensure!(!said.contains(hidden), "{url} says {hidden}");
        }
    }
    other.ask_to_end()?;
    pod.delete()?;
    other.gone()
}

/// Prints whatever an URL answers.
const GET: &str = r#"
import sys, urllib.request, urllib.error
name, _, value = sys.argv[2].partition(": ")
request = urllib.request.Request(sys.argv[1], headers={name: value})
try:
    answer = urllib.request.urlopen(request, timeout=10)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.headers, answer.read().decode())
"#;
