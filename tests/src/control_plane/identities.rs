//! Namespaces, ServiceAccounts, Pods on Nodes, and their tokens.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use hyper::Method;
use serde_json::{Value, json};

use super::ControlPlane;

/// Lifetime of the tokens, in seconds; the kubelet asks for about as much.
const TOKEN_SECONDS: u32 = 3600;

impl ControlPlane {
    /// Makes a namespace with these labels and the ServiceAccount `default`. Its name begins with
    /// `prefix`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn namespace(&self, prefix: &str, labels: &[(&str, &str)]) -> anyhow::Result<String> {
        let name = self.unique(prefix);
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "labels": map(labels) },
        }))?
        .accepted()?;
        self.service_account(&name, "default", &[])?;
        Ok(name)
    }

    /// Makes a ServiceAccount with these annotations, or changes it to have them.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn service_account(
        &self,
        namespace: &str,
        name: &str,
        annotations: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "namespace": namespace, "name": name, "annotations": map(annotations) },
        }))?
        .accepted()?;
        Ok(())
    }

    /// Makes a Pod on a Node, with the Node where it is missing; its uid. Without a kubelet it stays
    /// Pending, which is enough for a token that is bound to it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn pod(
        &self,
        namespace: &str,
        service_account: &str,
        name: &str,
        node: &str,
    ) -> anyhow::Result<String> {
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": node },
        }))?
        .accepted()?;
        let pod = self
            .create(&json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "namespace": namespace, "name": name },
                "spec": {
                    "nodeName": node,
                    "serviceAccountName": service_account,
                    "containers": [{ "name": "main", "image": "app.invalid/app" }],
                },
            }))?
            .accepted()?;
        Ok(pod.string("/metadata/uid").to_owned())
    }

    /// A token of a ServiceAccount, as the kubelet asks for it: by `TokenRequest`, bound to `pod`
    /// where one is named. No audience stands for the API server's own.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn token(
        &self,
        namespace: &str,
        service_account: &str,
        pod: Option<&str>,
        audiences: &[&str],
    ) -> anyhow::Result<String> {
        let bound = pod
            .map(|name| {
                let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
                let uid = self
                    .get(&path)?
                    .accepted()?
                    .string("/metadata/uid")
                    .to_owned();
                anyhow::Ok(json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid }))
            })
            .transpose()?;
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "boundObjectRef": bound,
                "expirationSeconds": TOKEN_SECONDS,
            },
        });
        let path =
            format!("/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token");
        let body = serde_json::to_vec(&request)?;
        let answer = self
            .send(Method::POST, &path, "application/json", body)?
            .accepted()?;
        let token = answer.string("/status/token");
        anyhow::ensure!(!token.is_empty(), "the answer has no token");
        Ok(token.to_owned())
    }

    /// A directory as the kubelet mounts it for a ServiceAccount: `token` for the API server,
    /// `ca.crt` and `namespace`.
    ///
    /// # Errors
    /// When the API server refuses, or it cannot be written.
    pub fn service_account_directory(
        &self,
        namespace: &str,
        service_account: &str,
    ) -> anyhow::Result<PathBuf> {
        let directory = self.directory.join(self.unique("serviceaccount"));
        fs::create_dir(&directory).context("failed to make a directory")?;
        let token = self.token(namespace, service_account, None, &[])?;
        fs::write(directory.join("token"), token)?;
        fs::write(directory.join("ca.crt"), self.ca_pem())?;
        fs::write(directory.join("namespace"), namespace)?;
        Ok(directory)
    }
}

/// Labels or annotations as an object has them.
fn map(pairs: &[(&str, &str)]) -> Value {
    let pairs = pairs.iter();
    pairs
        .map(|&(key, value)| (key.to_owned(), Value::from(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
