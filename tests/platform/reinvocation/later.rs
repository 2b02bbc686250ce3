//! A later webhook that changes each Pod once.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tests::control_plane::ControlPlane;
use tests::webhook::Webhook;

/// What it marks the Pods with that it has changed.
pub(super) const MARK: &str = "later.example/changed";

/// A running webhook, and the Pods of all reviews.
pub(super) struct Later {
    seen: Arc<Mutex<Vec<Value>>>,
    _webhook: Webhook<'static>,
}

impl Later {
    /// Starts one that applies the operations of `patch` to every Pod of `namespace` once.
    pub(super) fn start(cluster: &'static ControlPlane, namespace: &str, patch: &[Value]) -> Self {
        let seen = Arc::<Mutex<Vec<Value>>>::default();
        let (pods, patch) = (Arc::clone(&seen), patch.to_vec());
        let webhook = Webhook::start(cluster, namespace, move |pod| {
            pods.lock().unwrap().push(pod.clone());
            Some(operations(pod, &patch))
        });
        Self {
            seen,
            _webhook: webhook.unwrap(),
        }
    }

    /// The Pod of this name as each review brought it.
    pub(super) fn seen(&self, name: &str) -> Vec<Value> {
        let all = self.seen.lock().unwrap();
        let named = all.iter().filter(|pod| pod["metadata"]["name"] == name);
        named.cloned().collect()
    }
}

/// What it does to a Pod: nothing more when the Pod has its mark.
fn operations(pod: &Value, patch: &[Value]) -> Value {
    let mut annotations = pod["metadata"]["annotations"].clone();
    if annotations[MARK].is_string() {
        return json!([]);
    }
    annotations[MARK] = json!("true");
    let mark = json!({ "op": "add", "path": "/metadata/annotations", "value": annotations });
    patch.iter().cloned().chain([mark]).collect()
}
