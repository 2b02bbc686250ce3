//! Pods as tests write them.

use prometheus::IntCounter;
use serde_json::{Value, json};

use super::pod::Object;

/// A Pod of `node-a` that starts, with its name as its uid.
pub(super) fn object(name: &str) -> Object {
    object_on(name, "node-a")
}

/// The same on another node.
pub(super) fn object_on(name: &str, node: &str) -> Object {
    object_with(name, &json!({"nodeName": node}), &json!({}))
}

/// The same with a spec, on `node-a` where that names no node, and a status.
pub(super) fn object_with(name: &str, spec: &Value, status: &Value) -> Object {
    let mut spec = spec.clone();
    if spec.get("nodeName").is_none() {
        spec["nodeName"] = "node-a".into();
    }
    let pod = json!({
        "metadata": {"name": name, "namespace": "research", "uid": name},
        "spec": spec,
        "status": status,
    });
    serde_json::from_value(pod).unwrap()
}

/// A counter for log lines that are held back.
pub(super) fn suppressed() -> IntCounter {
    IntCounter::new("suppressed", "lines").unwrap()
}
