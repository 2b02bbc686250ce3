//! Objects of any kind, as JSON or YAML.

use std::collections::HashMap;
use std::sync::PoisonError;

use anyhow::Context as _;
use hyper::Method;
use serde_json::{Value, json};

use super::{Answer, ControlPlane};

/// How the API server calls a kind.
#[derive(Clone)]
pub(super) struct Resource {
    plural: String,
    namespaced: bool,
}

/// The content type of server-side apply. JSON is YAML too.
const APPLY: &str = "application/apply-patch+yaml";

impl ControlPlane {
    /// Gets a path.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, "application/json", Vec::new())
    }

    /// Creates an object, also one with `generateName`. What the API server refuses is an
    /// [`Answer`] too.
    ///
    /// # Errors
    /// When the API server does not answer or does not know the kind.
    pub fn create(&self, object: &Value) -> anyhow::Result<Answer> {
        self.create_with(object, "")
    }

    /// As [`create`](Self::create), without keeping the object.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_dry(&self, object: &Value) -> anyhow::Result<Answer> {
        self.create_with(object, "?dryRun=All")
    }

    fn create_with(&self, object: &Value, query: &str) -> anyhow::Result<Answer> {
        let path = format!("{}{query}", self.collection(object)?);
        let body = serde_json::to_vec(object)?;
        self.send(Method::POST, &path, "application/json", body)
    }

    /// Applies one object, as `kubectl apply --server-side --force-conflicts` does.
    ///
    /// # Errors
    /// When the API server does not answer or does not know the kind.
    pub fn apply(&self, object: &Value) -> anyhow::Result<Answer> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        let name = name.context("an object that is applied has a name")?;
        let path = format!(
            "{}/{name}?fieldManager=tests&force=true",
            self.collection(object)?
        );
        self.send(Method::PATCH, &path, APPLY, serde_json::to_vec(object)?)
    }

    /// Applies the documents of a YAML text one after the other. A document with `generateName` is
    /// created.
    ///
    /// # Errors
    /// When the text is no YAML, or as [`apply`](Self::apply).
    pub fn apply_yaml(&self, text: &str) -> anyhow::Result<Vec<Answer>> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).context("failed to read YAML")?;
        let documents = documents.iter().filter(|document| !document.is_null());
        documents
            .map(|document| match document.pointer("/metadata/name") {
                Some(_) => self.apply(document),
                None => self.create(document),
            })
            .collect()
    }

    /// Changes an object by a JSON merge patch.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn merge(&self, path: &str, change: &Value) -> anyhow::Result<Answer> {
        let body = serde_json::to_vec(change)?;
        self.send(Method::PATCH, path, "application/merge-patch+json", body)
    }

    /// Deletes an object at once, without a grace period.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        let body = serde_json::to_vec(&json!({ "gracePeriodSeconds": 0 }))?;
        self.send(Method::DELETE, path, "application/json", body)
    }

    /// Sends any request with every right.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn send(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<Answer> {
        self.send_as(self.client(), method, path, content, body)
    }

    /// Sends any request with the rights of a client: see [`client_with`](Self::client_with).
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn send_as(
        &self,
        client: kube::Client,
        method: Method,
        path: &str,
        content: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<Answer> {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content)
            .body(body.into())?;
        let path = path.to_owned();
        self.run(async move {
            let response = client.send(request).await;
            Answer::read(response.with_context(|| format!("failed to ask for {path}"))?).await
        })
    }

    /// The path that objects of this kind and namespace are created at.
    fn collection(&self, object: &Value) -> anyhow::Result<String> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let version = text("/apiVersion").context("an object has an `apiVersion`")?;
        let kind = text("/kind").context("an object has a `kind`")?;
        let group = if version.contains('/') {
            format!("/apis/{version}")
        } else {
            format!("/api/{version}")
        };
        let Resource { plural, namespaced } = self.resource(&group, kind)?;
        Ok(if namespaced {
            let namespace = text("/metadata/namespace").unwrap_or("default");
            format!("{group}/namespaces/{namespace}/{plural}")
        } else {
            format!("{group}/{plural}")
        })
    }

    fn resource(&self, group: &str, kind: &str) -> anyhow::Result<Resource> {
        let key = (group.to_owned(), kind.to_owned());
        let known = self
            .plurals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let list = self.get(group)?.accepted()?.body;
        let resources = list.pointer("/resources").and_then(Value::as_array);
        let found: HashMap<_, _> = resources
            .into_iter()
            .flatten()
            .filter_map(|entry| named(group, entry))
            .collect();
        let resource = found.get(&key).cloned();
        self.plurals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(found);
        resource.with_context(|| format!("no kind `{kind}` in {group}"))
    }
}

/// An entry of an `APIResourceList`, unless it is a subresource.
fn named(group: &str, entry: &Value) -> Option<((String, String), Resource)> {
    let plural = entry.get("name")?.as_str()?;
    if plural.contains('/') {
        return None;
    }
    let resource = Resource {
        plural: plural.to_owned(),
        namespaced: entry.get("namespaced")?.as_bool()?,
    };
    Some((
        (group.to_owned(), entry.get("kind")?.as_str()?.to_owned()),
        resource,
    ))
}
