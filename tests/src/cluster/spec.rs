//! What a test writes into a Pod's spec.

use serde_json::{Value, json};

/// The workload's image: a shell, Python with boto3, the AWS CLI.
pub(super) const IMAGE: &str = "local.test/workload:1";

/// A container of the workload's image.
pub fn container(name: &str, command: &[&str]) -> Value {
    json!({ "name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": command })
}

/// The spec of a Pod of `trainer`, which ends at once when it is told to.
pub fn pod_spec(containers: &[Value]) -> Value {
    json!({
        "serviceAccountName": "trainer",
        "terminationGracePeriodSeconds": 1,
        "containers": containers,
    })
}

/// The same spec as the Pod Security level `restricted` wants it: a user without any right.
pub fn restricted(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let confined =
        json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    let containers = spec
        .pointer_mut("/containers")
        .and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        if let Some(container) = container.as_object_mut() {
            container.insert("securityContext".to_owned(), confined.clone());
        }
    }
    let user = json!({
        "runAsNonRoot": true,
        "runAsUser": 1000,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("securityContext".to_owned(), user);
    }
    spec
}
