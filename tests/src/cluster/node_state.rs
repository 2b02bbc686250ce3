//! What the API server says of the node.

use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

/// Taints by which the node controller keeps Pods off a node that it does not hear of. An outage of the
/// API server leaves them for some seconds after the node is ready.
const UNHEARD: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

/// Whether a node is ready, and what keeps Pods off it.
#[derive(Debug, Default)]
pub(super) struct NodeState {
    is_ready: bool,
    taints: Vec<String>,
}

impl NodeState {
    /// That of a `Node`; that of none for anything else.
    pub(super) fn of(object: Value) -> Self {
        let node: Node = serde_json::from_value(object).unwrap_or_default();
        let conditions = node.status.and_then(|status| status.conditions);
        let mut conditions = conditions.into_iter().flatten();
        let taints = node.spec.and_then(|spec| spec.taints);
        Self {
            is_ready: conditions.any(|it| it.type_ == "Ready" && it.status == "True"),
            taints: taints
                .into_iter()
                .flatten()
                .map(|taint| taint.key)
                .collect(),
        }
    }

    /// Whether Pods can be bound to it, but for what an operator has asked for.
    pub(super) fn takes_pods(&self) -> bool {
        let is_unheard = |taint: &String| UNHEARD.contains(&taint.as_str());
        self.is_ready && !self.taints.iter().any(is_unheard)
    }
}
