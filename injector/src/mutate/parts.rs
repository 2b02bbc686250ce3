//! What a Pod gets besides what its containers get: the volume with its token, and the container that
//! connects it to its agent. And how both are recognised in a Pod that has them already.

use serde_json::{Value, json};
use shared::contract::{
    AGENT_SOCKET, AGENT_VOLUME, ENROLL_CONTAINER, ENROLL_SOCKET, RELAY_CONTAINER, TOKEN_DIRECTORY,
    TOKEN_FILE, TOKEN_VOLUME,
};

use super::container::Container;
use super::injection::mount;
use super::pod::Pod;
use super::settings::{Delivery, EnrolmentMode, PullPolicy, Settings};
use super::wishes::Wishes;

/// The binary in the image.
const ENROLL_BINARY: &str = "/caios-enroll";

/// How long the relay may take until it listens, in seconds. It depends on nothing but itself.
const RELAY_START_SECONDS: u32 = 60;

/// The volume with the token.
pub(super) fn token_volume(wishes: &Wishes<'_>) -> Value {
    json!({
        "name": TOKEN_VOLUME,
        "projected": {"sources": [{"serviceAccountToken": {
            "audience": wishes.audience,
            "expirationSeconds": wishes.token_expiration,
            "path": TOKEN_FILE.rsplit('/').next(),
        }}]},
    })
}

/// Whether a volume of that name is the one with the token. How long the token lives does not
/// count: it is drawn anew each time.
pub(super) fn is_token_volume(volume: &Value, wishes: &Wishes<'_>) -> bool {
    let sources = volume
        .pointer("/projected/sources")
        .and_then(Value::as_array);
    let Some([source]) = sources.map(Vec::as_slice) else {
        return false;
    };
    let token = |key: &str| source.get("serviceAccountToken")?.get(key)?.as_str();
    token("audience") == Some(wishes.audience) && token("path") == TOKEN_FILE.rsplit('/').next()
}

/// The container that connects the Pod to its agent.
#[derive(Debug)]
pub(super) struct Connector<'a> {
    pub(super) name: &'static str,
    arguments: Vec<String>,
    mounts: Vec<(&'static str, &'a str)>,
    /// What the relay has besides: it stays, and later init containers wait until it listens.
    stays: Option<Value>,
}

impl<'a> Connector<'a> {
    /// Each flag is written out, whether or not it has its default: `kubectl describe` then says it
    /// all. `None` where the Pod needs no such container.
    pub(super) fn new(wishes: &Wishes<'_>, settings: &'a Settings) -> Option<Self> {
        let directory = settings.public_directory.as_str();
        let port = wishes.port;
        match wishes.delivery {
            Delivery::Handoff => Some(Self {
                name: ENROLL_CONTAINER,
                arguments: vec![
                    format!("--socket={directory}/{ENROLL_SOCKET}"),
                    format!("--token-file={TOKEN_FILE}"),
                    format!("--port={port}"),
                    format!("--mode={}", mode(settings.enrolment_mode)),
                ],
                mounts: vec![(TOKEN_VOLUME, TOKEN_DIRECTORY), (AGENT_VOLUME, directory)],
                stays: None,
            }),
            Delivery::Relay => Some(Self {
                name: RELAY_CONTAINER,
                arguments: vec![
                    "relay".to_owned(),
                    format!("--socket={directory}/{AGENT_SOCKET}"),
                    format!("--port={port}"),
                ],
                mounts: vec![(AGENT_VOLUME, directory)],
                stays: Some(json!({
                    "exec": {"command": [
                        ENROLL_BINARY, "relay", "--check", format!("--port={port}"),
                    ]},
                    "periodSeconds": 1,
                    "failureThreshold": RELAY_START_SECONDS,
                })),
            }),
            Delivery::Direct => None,
        }
    }

    /// The container, running as `user`.
    ///
    /// It states no resources in a Pod that states them as a whole: the API server refuses a Pod
    /// whose containers ask for more than that (`validatePodResourceConsistency` in its
    /// `pkg/apis/core/validation`), and the Pod's class follows from its own.
    pub(super) fn container(&self, pod: &Pod<'_>, user: i64, settings: &Settings) -> Value {
        let resources = (!states_resources(pod)).then(|| {
            let resources = json!({
                "cpu": settings.resources.cpu,
                "memory": settings.resources.memory,
            });
            json!({"requests": resources, "limits": resources})
        });
        let mounts: Vec<_> = self
            .mounts
            .iter()
            .map(|(volume, directory)| mount(volume, directory))
            .collect();
        let mut container = json!({
            "name": self.name,
            "image": settings.image,
            "imagePullPolicy": pull_policy(settings.pull_policy),
            "command": [ENROLL_BINARY],
            "args": self.arguments,
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": user != 0,
                "runAsUser": user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            // `kubectl describe` then shows why it failed.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts,
        });
        if let (Some(resources), Value::Object(fields)) = (resources, &mut container) {
            fields.insert("resources".to_owned(), resources);
        }
        if let (Some(probe), Value::Object(fields)) = (&self.stays, &mut container) {
            fields.insert("restartPolicy".to_owned(), "Always".into());
            fields.insert("startupProbe".to_owned(), probe.clone());
        }
        container
    }

    /// Whether a container of that name is this one. Image, resources and security context do not
    /// count: an upgrade changes the first, other webhooks change all of them.
    pub(super) fn is(&self, container: &Container<'_>) -> bool {
        let field = |key: &str| container.value.get(key);
        let restarts = field("restartPolicy").and_then(Value::as_str) == Some("Always");
        container.is_init()
            && restarts == self.stays.is_some()
            && field("command") == Some(&json!([ENROLL_BINARY]))
            && field("args") == Some(&json!(self.arguments))
            && self
                .mounts
                .iter()
                .all(|(volume, directory)| container.mounts_at(volume, directory))
    }
}

/// Whether the Pod states resources of its own, which all its containers share.
fn states_resources(pod: &Pod<'_>) -> bool {
    ["/resources/requests", "/resources/limits"]
        .iter()
        .filter_map(|side| pod.at(side)?.as_object())
        .any(|stated| !stated.is_empty())
}

const fn mode(mode: EnrolmentMode) -> &'static str {
    match mode {
        EnrolmentMode::Reown => "reown",
        EnrolmentMode::Plain => "plain",
    }
}

const fn pull_policy(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::properties::settings;
    use crate::mutate::subject::{PodSecurity, Subject};
    use crate::mutate::{Decision, mutate};

    /// The container that a Pod with these resources of its own gets.
    fn added(resources: &Value, delivery: Delivery) -> Value {
        let pod = json!({"spec": {"resources": resources, "containers": [{"name": "app"}]}});
        let subject = Subject {
            pod: &pod,
            service_account: &[("inject".to_owned(), "true".to_owned())].into(),
            pod_security: PodSecurity::Privileged,
            required: false,
            draw: 0,
        };
        let verdict = mutate(&subject, &settings(delivery));
        assert_eq!(verdict.decision, Decision::Injected);
        verdict.patch.last().unwrap()["value"][0].clone()
    }

    #[test]
    fn a_pod_that_states_resources_as_a_whole_is_not_asked_for_more() {
        let own = json!({"cpu": "100m", "memory": "32Mi"});
        for delivery in [Delivery::Handoff, Delivery::Relay] {
            for stated in [
                json!({"requests": {"cpu": "50m"}}),
                json!({"requests": null, "limits": {"memory": "16Mi"}}),
            ] {
                let container = added(&stated, delivery);
                assert_eq!(container["command"], json!([ENROLL_BINARY]));
                assert_eq!(container.get("resources"), None, "{stated}");
            }
            for stated in [json!(null), json!({}), json!({"requests": {}})] {
                let container = added(&stated, delivery);
                let resources = json!({"requests": own, "limits": own});
                assert_eq!(container["resources"], resources, "{stated}");
            }
        }
    }
}
