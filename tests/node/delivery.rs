//! Every way in which a Pod reaches the agent.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use shared::contract;
use tests::cluster::{Cluster, Workload, container};
use tests::control_plane::ISSUER;
use tests::wait;

use crate::agents;

const LISTENERS: &str = "caios_agent_listeners{delivery=\"handoff\"}";
/// How long the listener of a Pod in the node's network outlives it: no interface tells of its end.
const HOST_REAPED: Duration = Duration::from_mins(3);
/// A node of which nothing is there but its name.
const OTHER_NODE: &str = "node-elsewhere";

/// Creates a Pod of `trainer` that wants this delivery.
pub(crate) fn delivered<'a>(
    cluster: &'a Cluster,
    namespace: &str,
    delivery: &str,
    main: Value,
    further: &Value,
) -> anyhow::Result<Workload<'a>> {
    let wants = json!({ "caios.coreweave.com/delivery": delivery });
    cluster.annotated_pod(namespace, delivery, &wants, &[main], further)
}

/// What comes back to a Pod that dials a socket and asks with a token: status line, headers and body.
pub(crate) fn dialled(pod: &Workload<'_>, socket: &str, token: &str) -> anyhow::Result<String> {
    pod.exec("main", &["python3", "-c", DIAL, socket, token])
}

/// The keys that a Pod gets.
pub(crate) fn keys(pod: &Workload<'_>) -> anyhow::Result<String> {
    let (status, body) = pod.credentials(None)?;
    let key = body.pointer("/AccessKeyId").and_then(Value::as_str);
    ensure!(
        status == 200,
        "{status} {}",
        body.pointer("/message").unwrap_or(&body)
    );
    Ok(key.context("an answer without a key")?.to_owned())
}

pub(crate) fn pods_in_the_nodes_network_share_a_listener_and_no_key(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("host")?;
    cluster.service_account(&namespace, "server")?;
    for account in ["trainer", "server"] {
        cluster.until_injected(&namespace, account)?;
    }
    let before = cluster.agent_metric(LISTENERS)?;
    let pod = |name: &str, account: &str| {
        let idle = [container("main", &["sleep", "86400"])];
        let further = json!({ "hostNetwork": true, "serviceAccountName": account });
        cluster.create_pod(&namespace, name, &idle, &further)
    };
    // At once: whoever comes second waits for the first.
    let (first, second) = (pod("first", "trainer")?, pod("second", "server")?);
    for pod in [&first, &second] {
        pod.until_running()?;
    }
    let own = (keys(&first)?, keys(&second)?);
    ensure!(own.0 != own.1, "two ServiceAccounts have one key");
    let listeners = cluster.agent_metric(LISTENERS)? - before;
    ensure!((listeners - 1.0).abs() < 0.5, "{listeners} listeners");
    // What follows is known by the keeper alone: who shares the listener.
    agents::worker_killed(cluster)?;
    ensure!(
        own == (keys(&first)?, keys(&second)?),
        "other keys after a crash"
    );
    let token = first.token()?;
    first.delete()?;
    agents::keeper_killed(cluster)?;
    agents::pod_deleted(cluster)?;
    ensure!(own.1 == keys(&second)?, "other keys after an upgrade");
    let mut answer = (0, Value::Null);
    let waited = wait::until("the token of the ended Pod is refused", HOST_REAPED, || {
        answer = second.credentials(Some(&token)).unwrap_or_default();
        answer.0 == 403
    });
    waited.with_context(|| format!("it gets {}", answer.0))?;
    ensure!(own.1 == keys(&second)?, "other keys after that");
    // The listener ends with it, a minute later.
    second.delete()
}

pub(crate) fn a_relay_serves_its_pod_and_does_not_keep_it_from_ending(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("relay")?;
    cluster.until_injected(&namespace, "trainer")?;
    // Keys before and after the agent is another process; then the Pod's only container ends.
    let main = "while ! test -e /tmp/end; do sleep 0.2; done";
    let main = container("main", &["sh", "-c", main]);
    let once = json!({ "restartPolicy": "Never" });
    let pod = delivered(cluster, &namespace, "relay", main, &once)?;
    pod.until_running()?;
    let object = pod.object()?;
    let relay = object.pointer("/spec/initContainers/0");
    let is_sidecar =
        relay.and_then(|relay| relay.pointer("/restartPolicy")) == Some(&"Always".into());
    ensure!(is_sidecar, "no native sidecar: {relay:?}");
    let key = keys(&pod)?;
    agents::worker_killed(cluster)?;
    ensure!(keys(&pod)? == key, "other keys after a crash");
    agents::pod_deleted(cluster)?;
    ensure!(keys(&pod)? == key, "other keys after an upgrade");
    pod.exec("main", &["touch", "/tmp/end"])?;
    let phase = pod.ended()?;
    ensure!(phase == "Succeeded", "{phase}");
    pod.delete()
}

pub(crate) fn a_client_that_dials_the_shared_socket_gets_the_keys_of_its_token_on_this_node(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("direct")?;
    cluster.until_injected(&namespace, "trainer")?;
    let idle = container("main", &["sleep", "86400"]);
    let pod = delivered(cluster, &namespace, "direct", idle, &json!({}))?;
    pod.until_running()?;
    let object = pod.object()?;
    ensure!(
        object.pointer("/spec/initContainers").is_none(),
        "a container was added"
    );
    let socket = format!("{}/{}", contract::PUBLIC_DIRECTORY, contract::AGENT_SOCKET);
    let ask = |token: &str| dialled(&pod, &socket, token);
    let answer = ask(&pod.token()?)?;
    ensure!(
        answer.contains(" 200 ") && answer.contains("AccessKeyId"),
        "its own token gets no key"
    );
    // A good token of the same ServiceAccount, of a Pod that the API server knows on another node.
    let elsewhere = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "name": "elsewhere" },
        "spec": {
            "nodeName": OTHER_NODE,
            "serviceAccountName": "trainer",
            "containers": [{ "name": "main", "image": "app.invalid/app" }],
        },
    });
    let control_plane = cluster.control_plane();
    control_plane.create(&elsewhere)?.accepted()?;
    let stolen = control_plane.token(&namespace, "trainer", Some("elsewhere"), &[ISSUER])?;
    let answer = ask(&stolen)?;
    ensure!(
        answer.contains(" 403 ") && answer.contains(OTHER_NODE),
        "the token of a Pod of another node: {answer}"
    );
    ensure!(
        !answer.contains("SecretAccessKey"),
        "the token of a Pod of another node gets a key"
    );
    let path = format!("/api/v1/namespaces/{namespace}/pods/elsewhere?gracePeriodSeconds=0");
    let json = "application/json";
    control_plane.send(hyper::Method::DELETE, &path, json, Vec::new())?;
    pod.delete()
}

pub(crate) fn a_pod_is_served_on_the_loopback_of_either_protocol(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("dual")?;
    cluster.until_injected(&namespace, "trainer")?;
    let pod = cluster.idle_pod(&namespace, "dual")?;
    let key = keys(&pod)?;
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let url = format!(
            "{}=http://{host}:{}{}",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            contract::DEFAULT_PORT,
            contract::CREDENTIALS_PATH
        );
        let read = "import boto3; print(boto3.Session().get_credentials().access_key)";
        let found = pod.exec("main", &["env", &url, "python3", "-c", read]);
        let found = found.with_context(|| url.clone())?;
        ensure!(found.trim() == key, "{url}: {found}");
    }
    pod.delete()
}

/// Sends one request with a token to a socket, and prints what comes back.
const DIAL: &str = r#"
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.settimeout(15)
client.connect(sys.argv[1])
client.sendall(("GET /v1/credentials HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nAuthorization: %s\r\n\r\n" % sys.argv[2]).encode())
answer = b""
while True:
    part = client.recv(65536)
    if not part:
        break
    answer += part
print(answer.decode())
"#;
