//! What is in etcd, behind the API server's back.

use anyhow::ensure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::ControlPlane;
use super::programs::ask_etcd;

impl ControlPlane {
    /// Loses a Pod, as a store does that is restored to a revision before the Pod was made. Nobody is
    /// told: stop the API server before, and start it again after.
    ///
    /// # Errors
    /// When etcd does not answer, or has no such Pod.
    pub fn lose_pod(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        // The API server's own layout.
        let key = STANDARD.encode(format!("/registry/pods/{namespace}/{name}"));
        let body = json!({ "key": key }).to_string();
        let answer = self.run(ask_etcd("/v3/kv/deleterange", body))?;
        let deleted = answer.status == 200
            && answer
                .json()
                .get("deleted")
                .is_some_and(|count| count == "1");
        ensure!(deleted, "etcd answered {} {}", answer.status, answer.body);
        Ok(())
    }
}
