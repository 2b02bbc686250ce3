//! The objects around an injector, as the chart makes them.

use serde_json::{Value, json};
use shared::contract;

use super::{SECRET, SERVICE, SERVICE_ACCOUNT};
use crate::control_plane::ADDRESS;

/// Everything but the ServiceAccount and the endpoints.
pub(super) fn all(namespace: &str, target: &str, webhooks: &str) -> Vec<Value> {
    let mut objects = rights(namespace, webhooks);
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "namespace": namespace, "name": SECRET },
    }));
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": namespace, "name": SERVICE },
        "spec": { "ports": [{ "name": "https", "port": 443, "targetPort": "https" }] },
    }));
    objects.push(webhook_configuration(namespace, target, webhooks));
    objects
}

/// What the injector may do, and nothing else: nothing is created.
fn rights(namespace: &str, webhooks: &str) -> Vec<Value> {
    let subject = json!([{
        "kind": "ServiceAccount", "namespace": namespace, "name": SERVICE_ACCOUNT,
    }]);
    let own = ["get", "list", "watch", "patch"];
    let cluster = json!([
        { "apiGroups": [""], "resources": ["serviceaccounts", "namespaces"],
          "verbs": ["get", "list", "watch"] },
        { "apiGroups": ["admissionregistration.k8s.io"],
          "resources": ["mutatingwebhookconfigurations"],
          "resourceNames": [webhooks], "verbs": own },
    ]);
    let secret = json!([
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": [SECRET], "verbs": own },
    ]);
    let mut objects = Vec::new();
    for (kind, metadata, rules) in [
        ("ClusterRole", json!({ "name": namespace }), cluster),
        (
            "Role",
            json!({ "name": SERVICE, "namespace": namespace }),
            secret,
        ),
    ] {
        let version = "rbac.authorization.k8s.io/v1";
        objects.push(json!({
            "apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules,
        }));
        objects.push(json!({
            "apiVersion": version,
            "kind": format!("{kind}Binding"),
            "metadata": metadata,
            "subjects": subject,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": metadata.get("name"),
            },
        }));
    }
    objects
}

fn webhook_configuration(namespace: &str, target: &str, name: &str) -> Value {
    let webhook = |name: &str, path: &str, policy: &str, operator: &str| {
        json!({
            "name": name,
            "clientConfig": {
                "service": { "namespace": namespace, "name": SERVICE, "path": path, "port": 443 },
            },
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["pods"],
            }],
            "namespaceSelector": { "matchExpressions": [{
                "key": "kubernetes.io/metadata.name", "operator": "In", "values": [target],
            }] },
            "objectSelector": { "matchExpressions": [{
                "key": contract::REQUIRED_LABEL, "operator": operator, "values": ["true"],
            }] },
            "matchConditions": [{
                "name": "not-a-mirror-pod",
                "expression": "!('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}))",
            }],
            "failurePolicy": policy,
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 5,
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": name },
        "webhooks": [
            webhook("required.caios.coreweave.com", "/mutate/required", "Fail", "In"),
            webhook("serviceaccount.caios.coreweave.com", "/mutate", "Ignore", "NotIn"),
        ],
    })
}

/// One injector's place behind the Service.
pub(super) fn endpoint_slice(namespace: &str, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": format!("{SERVICE}-{port}"),
            "labels": { "kubernetes.io/service-name": SERVICE },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [ADDRESS], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": port }],
    })
}
