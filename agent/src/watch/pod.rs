//! What is read of a Pod, and what is kept of it. The rest of a Pod, its environment among it, is
//! skipped where it arrives.

mod shown;

use std::borrow::Cow;
use std::net::IpAddr;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use shared::contract::{
    AGENT_VOLUME, DEFAULT_PORT, ENROLL_CONTAINER, RELAY_CONTAINER, TOKEN_VOLUME,
};

use self::shown::{InitContainer, Metadata, Shown, Spec, Status};
use crate::workload::{Pod, PodUid};

/// A Pod as the API server shows it, without what nobody here asks about.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Shown")]
pub(super) struct Object {
    metadata: ObjectMeta,
    /// The node that it is bound to.
    pub(super) node: String,
    /// What is kept.
    pub(super) seen: Seen,
}

/// What is kept of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) pod: Pod,
    pub(super) stage: Stage,
    pub(super) injection: Injection,
    pub(super) wish: Wish,
    /// It shares the network namespace of the node.
    pub(super) host_network: bool,
    /// Somebody has deleted it, and it is being ended.
    pub(super) is_ending: bool,
    /// Those of its present sandbox, once the kubelet has told them.
    pub(super) addresses: Vec<IpAddr>,
    /// Where its listener is, as the injector told its init container.
    pub(super) port: u16,
}

/// How far a Pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not all of its init containers have ended, or they are to run again in a sandbox that is not
    /// there yet: after a reboot of its node, for as long as a volume cannot be mounted.
    Starting,
    /// Its init containers have ended.
    Running,
    /// All of its containers have ended for good.
    Finished,
}

/// How the injector has connected a Pod, told by the names that it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Injection {
    /// Not at all.
    Absent,
    /// By a listener that its init container hands over.
    Listener,
    /// By a relay of its own, or by the shared socket.
    Socket,
}

/// What a Pod itself says about being injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Yes, by its label.
    Asks,
    /// No; or nobody could inject it, because it is the mirror of a file on the node.
    Declines,
    /// Nothing: its `ServiceAccount` decides.
    Silent,
}

impl From<Shown> for Object {
    fn from(shown: Shown) -> Self {
        let Shown {
            metadata,
            spec,
            status,
        } = shown;
        let addresses = status.addresses.iter();
        let seen = Seen {
            stage: stage(&status),
            injection: injection(&spec),
            port: port(&spec.init_containers),
            wish: wish(&metadata),
            host_network: spec.host_network,
            is_ending: metadata.deletion_timestamp.is_some(),
            addresses: addresses.filter_map(|it| it.ip.parse().ok()).collect(),
            pod: Pod {
                uid: PodUid::new(&metadata.uid),
                name: metadata.name.clone(),
                namespace: metadata.namespace.clone(),
                service_account: spec
                    .service_account_name
                    .filter(|name| !name.is_empty())
                    .unwrap_or_else(|| "default".to_owned()),
            },
        };
        Self {
            metadata: ObjectMeta {
                name: Some(metadata.name),
                namespace: Some(metadata.namespace),
                uid: Some(metadata.uid),
                resource_version: metadata.resource_version,
                ..ObjectMeta::default()
            },
            node: spec.node_name,
            seen,
        }
    }
}

/// The kubelet goes on to call a Pod running that ran once. That its sandbox is gone, it says by a
/// condition (Kubernetes 1.29 and later).
fn stage(status: &Status) -> Stage {
    let has_no_sandbox = status
        .conditions
        .iter()
        .any(|it| it.kind == "PodReadyToStartContainers" && it.status == "False");
    match status.phase.as_deref() {
        Some("Running") if !has_no_sandbox => Stage::Running,
        Some("Succeeded" | "Failed") => Stage::Finished,
        _ => Stage::Starting,
    }
}

fn injection(spec: &Spec) -> Injection {
    let starts_with = |name: &str| spec.init_containers.iter().any(|it| it.name == name);
    let has = |volume: &&str| spec.volumes.iter().any(|it| it.name == **volume);
    if starts_with(ENROLL_CONTAINER) {
        Injection::Listener
    } else if starts_with(RELAY_CONTAINER) || [TOKEN_VOLUME, AGENT_VOLUME].iter().all(has) {
        Injection::Socket
    } else {
        Injection::Absent
    }
}

fn port(init_containers: &[InitContainer]) -> u16 {
    let mut containers = init_containers.iter();
    let enrolling = containers.find(|it| it.name == ENROLL_CONTAINER);
    let mut arguments = enrolling.into_iter().flat_map(|it| &it.args);
    arguments
        .find_map(|argument| argument.strip_prefix("--port=")?.parse().ok())
        .unwrap_or(DEFAULT_PORT)
}

fn wish(metadata: &Metadata) -> Wish {
    let annotations = metadata.annotations.as_ref();
    let by_annotation = annotations.and_then(|it| it.inject.as_deref());
    let by_label = metadata.labels.as_ref().and_then(|it| it.inject.as_deref());
    let is_mirror = annotations.is_some_and(|it| it.mirror.is_some());
    let says = |given: Option<&str>, word: &str| given.is_some_and(|it| it.trim() == word);
    if is_mirror || says(by_annotation, "false") || says(by_label, "false") {
        Wish::Declines
    } else if says(by_label, "true") {
        Wish::Asks
    } else {
        Wish::Silent
    }
}

impl Resource for Object {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::contract::{ANNOTATION_PREFIX, REQUIRED_LABEL};

    use super::*;

    fn seen(pod: Value) -> Seen {
        serde_json::from_value::<Object>(pod).unwrap().seen
    }

    fn injected(delivery: &Value) -> Injection {
        seen(json!({"metadata": {}, "spec": delivery})).injection
    }

    #[test]
    fn of_a_pod_with_everything_the_little_is_kept_that_is_asked_about() {
        let object: Object = serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "app", "namespace": "research", "uid": "u-1", "resourceVersion": "7",
                "deletionTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "canary"},
                "managedFields": [{"manager": "canary"}],
            },
            "spec": {
                "nodeName": "node-a",
                "serviceAccountName": "reader",
                "initContainers": [{
                    "name": "caios-enroll", "args": ["--port=4711"],
                    "env": [{"name": "A", "value": "canary"}],
                }],
                "containers": [{"name": "main", "env": [{"name": "A", "value": "canary"}]}],
            },
            "status": {"phase": "Running", "podIPs": [{"ip": "10.1.2.3"}, {"ip": "fd00::3"}]},
        }))
        .unwrap();
        assert!(!format!("{object:?}").contains("canary"));
        assert_eq!(object.meta().resource_version.as_deref(), Some("7"));
        assert_eq!(object.node, "node-a");
        let seen = object.seen;
        assert_eq!(seen.pod.service_account, "reader");
        assert_eq!(seen.pod.uid.as_str(), "u-1");
        assert_eq!(
            (seen.stage, seen.injection),
            (Stage::Running, Injection::Listener)
        );
        assert!(seen.is_ending && !seen.host_network);
        let addresses = ["10.1.2.3", "fd00::3"].map(|it| it.parse::<IpAddr>().unwrap());
        assert_eq!(seen.addresses, addresses);
        assert_eq!(seen.port, 4711);
    }

    #[test]
    fn a_pod_that_waits_for_a_new_sandbox_does_not_run_whatever_its_phase_says() {
        let stage = |phase: &str, sandbox: &str| {
            let conditions = json!([
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
                {"type": "PodReadyToStartContainers", "status": sandbox},
            ]);
            seen(json!({"metadata": {}, "status": {"phase": phase, "conditions": conditions}}))
                .stage
        };
        assert_eq!(stage("Running", "False"), Stage::Starting);
        assert_eq!(stage("Running", "True"), Stage::Running);
        assert_eq!(stage("Pending", "False"), Stage::Starting);
        assert_eq!(stage("Failed", "False"), Stage::Finished);
        let silent = seen(json!({"metadata": {}, "status": {"phase": "Running"}}));
        assert_eq!(silent.stage, Stage::Running);
    }

    #[test]
    fn each_delivery_leaves_its_mark() {
        let volumes = json!([{"name": TOKEN_VOLUME}, {"name": AGENT_VOLUME}]);
        for (spec, expected) in [
            (
                json!({"initContainers": [{"name": ENROLL_CONTAINER}], "volumes": volumes}),
                Injection::Listener,
            ),
            (
                json!({"initContainers": [{"name": RELAY_CONTAINER}], "volumes": volumes}),
                Injection::Socket,
            ),
            (
                json!({"initContainers": [{"name": "own"}], "volumes": volumes}),
                Injection::Socket,
            ),
            (
                json!({"volumes": [{"name": TOKEN_VOLUME}]}),
                Injection::Absent,
            ),
            (json!({}), Injection::Absent),
        ] {
            assert_eq!(injected(&spec), expected, "{spec}");
        }
    }

    #[test]
    fn a_pods_no_wins_over_its_yes() {
        let annotation = format!("{ANNOTATION_PREFIX}inject");
        let wish = |annotation_value: &str, label: &str| {
            seen(json!({"metadata": {
                "annotations": {annotation.as_str(): annotation_value},
                "labels": {REQUIRED_LABEL: label},
            }}))
            .wish
        };
        assert_eq!(wish("false", "true"), Wish::Declines);
        assert_eq!(wish("", " false "), Wish::Declines);
        assert_eq!(wish("", "true"), Wish::Asks);
        assert_eq!(wish("true", "yes"), Wish::Silent);
        let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "0f"}}});
        assert_eq!(seen(mirror).wish, Wish::Declines);
    }
}
