//! Another vendor's webhook changes Pods after ours, and the API server asks ours again.

mod later;

use serde_json::{Value, json};
use shared::contract;
use tests::control_plane::Answer;
use tests::injector::injected;

use self::later::{Later, MARK};
use crate::cases::comparable;
use crate::warned::{SERVICE_ACCOUNT, WARNING, Warned};

/// A namespace whose Pods both webhooks see.
struct Scene {
    warned: Warned,
    later: Later,
}

impl Scene {
    /// Starts both; the later one applies `patch` to every Pod once.
    fn new(patch: &[Value]) -> Self {
        let warned = Warned::new("reinvoked");
        let later = Later::start(warned.cluster, &warned.namespace, patch);
        Self { warned, later }
    }

    /// Creates a Pod of the annotated ServiceAccount, without the API server's own token: that it
    /// mounts one in our container makes it ask again too.
    fn create(&self, metadata: &Value, spec: &Value) -> Answer {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec,
        });
        pod["metadata"]["namespace"] = json!(self.warned.namespace);
        pod["spec"]["serviceAccountName"] = json!(SERVICE_ACCOUNT);
        pod["spec"]["automountServiceAccountToken"] = json!(false);
        self.warned
            .cluster
            .create(&pod)
            .unwrap()
            .accepted()
            .unwrap()
    }
}

/// The names of a list.
fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .filter_map(|item| item["name"].as_str())
        .collect()
}

#[test]
fn containers_that_a_later_webhook_adds_are_injected_as_if_they_had_been_there() {
    let sidecar = json!({ "name": "sidecar", "image": "mesh.invalid/proxy" });
    let native =
        json!({ "name": "native", "image": "mesh.invalid/log", "restartPolicy": "Always" });
    let scene = Scene::new(&[
        json!({ "op": "add", "path": "/spec/containers/-", "value": sidecar }),
        json!({ "op": "add", "path": "/spec/initContainers/-", "value": native }),
    ]);
    let first = json!({ "name": "first", "image": "app.invalid/app" });
    let main = json!({ "name": "main", "image": "app.invalid/app" });
    let before = scene.warned.decided("injected");
    let created = scene.create(
        &json!({ "name": "changed" }),
        &json!({ "initContainers": [first], "containers": [main] }),
    );
    assert_eq!(scene.warned.decided("injected") - before, 2, "asked twice");
    let seen = scene.later.seen("changed");
    assert_eq!(seen.len(), 2, "what we change, the later one is shown");
    assert!(injected(&seen[0]), "ours is asked first");

    let pod = &created.body;
    assert_eq!(created.warnings, [WARNING]);
    let init_containers = names(&pod["spec"]["initContainers"]);
    assert_eq!(init_containers, ["caios-enroll", "first", "native"]);
    assert_eq!(names(&pod["spec"]["containers"]), ["main", "sidecar"]);
    let sidecar_env = names(&pod["spec"]["containers"][1]["env"]);
    assert!(sidecar_env.contains(&"AWS_CONTAINER_CREDENTIALS_FULL_URI"));

    // Nothing is missing and nothing is there twice.
    let from_the_start = scene.create(
        &json!({ "name": "unchanged", "annotations": { MARK: "true" } }),
        &json!({ "initContainers": [first, native], "containers": [main, sidecar] }),
    );
    assert_eq!(scene.later.seen("unchanged").len(), 1);
    assert_eq!(comparable(pod), comparable(&from_the_start.body));
}

#[test]
fn a_sidecar_that_a_later_webhook_puts_before_ours_is_injected_where_it_is() {
    let native =
        json!({ "name": "native", "image": "mesh.invalid/log", "restartPolicy": "Always" });
    let scene =
        Scene::new(&[json!({ "op": "add", "path": "/spec/initContainers/0", "value": native })]);
    let main = json!({ "name": "main", "image": "app.invalid/app" });
    let created = scene.create(
        &json!({ "name": "changed" }),
        &json!({ "containers": [main] }),
    );
    let init_containers = &created.body["spec"]["initContainers"];
    assert_eq!(names(init_containers), ["native", "caios-enroll"]);
    let container = &created.body["spec"]["containers"][0];
    assert_eq!(init_containers[0]["env"], container["env"]);
    let mounts = names(&init_containers[0]["volumeMounts"]);
    assert_eq!(
        mounts.iter().filter(|name| **name == "caios-token").count(),
        1
    );
}

#[test]
fn where_a_later_webhook_adds_nothing_for_us_the_second_review_changes_nothing() {
    let scene = Scene::new(&[]);
    let [injections, unchanged] = ["injected", "unchanged"].map(|name| scene.warned.decided(name));
    // The label chooses the webhook that Pods must not start without.
    for (name, labels) in [
        ("optional", json!({})),
        ("required", json!({ contract::REQUIRED_LABEL: "true" })),
    ] {
        let created = scene.create(
            &json!({ "name": name, "labels": labels }),
            &json!({ "containers": [{ "name": "main", "image": "app.invalid/app" }] }),
        );
        assert_eq!(created.body["metadata"]["annotations"][MARK], "true");
        assert_eq!(created.warnings, [WARNING], "{name}");
        let seen = scene.later.seen(name);
        assert_eq!(seen.len(), 1, "nothing is left to show to the later one");
        assert_eq!(comparable(&created.body), comparable(&seen[0]), "{name}");
    }
    assert_eq!(scene.warned.decided("injected") - injections, 2);
    assert_eq!(scene.warned.decided("unchanged") - unchanged, 2);
}

#[test]
fn that_the_api_server_mounts_its_own_token_in_our_container_changes_nothing() {
    let warned = Warned::new("automounted");
    let [injections, unchanged] = ["injected", "unchanged"].map(|name| warned.decided(name));
    let created = warned.cluster.create(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": warned.namespace, "name": "app" },
        "spec": {
            "serviceAccountName": SERVICE_ACCOUNT,
            "containers": [{ "name": "main", "image": "app.invalid/app" }],
        },
    }));
    let created = created.unwrap().accepted().unwrap();
    let spec = &created.body["spec"];
    assert_eq!(names(&spec["initContainers"]), ["caios-enroll"]);
    let mounted = names(&spec["initContainers"][0]["volumeMounts"]);
    assert!(
        mounted
            .iter()
            .any(|name| name.starts_with("kube-api-access-")),
        "{mounted:?}"
    );
    assert_eq!(created.warnings, [WARNING]);
    assert_eq!(warned.decided("injected") - injections, 1);
    assert_eq!(warned.decided("unchanged") - unchanged, 1);
}
