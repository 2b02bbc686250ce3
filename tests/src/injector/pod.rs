//! The Pods that tests have reviewed.

use serde_json::{Value, json};
use shared::contract;

/// A Pod that says no more than it must; a required one has the label.
pub fn pod(namespace: &str, service_account: &str, required: bool) -> Value {
    let labels = if required {
        json!({ contract::REQUIRED_LABEL: "true" })
    } else {
        json!({})
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "generateName": "app-", "labels": labels },
        "spec": {
            "serviceAccountName": service_account,
            "automountServiceAccountToken": false,
            "containers": [{ "name": "main", "image": "app.invalid/app" }],
        },
    })
}

/// Whether a Pod has our init container.
pub fn injected(pod: &Value) -> bool {
    let containers = pod
        .pointer("/spec/initContainers")
        .and_then(Value::as_array);
    let mut names = containers
        .into_iter()
        .flatten()
        .map(|container| &container["name"]);
    names.any(|name| name == contract::ENROLL_CONTAINER)
}
