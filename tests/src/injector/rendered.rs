//! What the chart renders around an injector, changed so that many have a place in one cluster.

use std::sync::OnceLock;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::IMAGE;
use crate::chart::{self, LEAST, NAMESPACE};
use crate::control_plane::Helm;

/// What has no namespace is called this, and so are its references.
const NAME: &str = "caios-injector";

/// The objects of the injector, rendered for the release `namespace`, with `unique` as the name of
/// what has no namespace. The webhooks are for the Pods of `target` alone.
pub(super) fn objects(namespace: &str, unique: &str, target: &str) -> anyhow::Result<Vec<Value>> {
    static RENDERED: OnceLock<Result<String, String>> = OnceLock::new();
    // Helm takes a second on a busy machine: once for all tests of a binary.
    let rendered = RENDERED.get_or_init(|| render().map_err(|error| format!("{error:#}")));
    let text = rendered
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"));
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(text?).context("failed to read what Helm rendered")?;
    let component = "/metadata/labels/app.kubernetes.io~1component";
    Ok(objects
        .into_iter()
        .filter(|object| object.pointer(component) == Some(&json!("injector")))
        .map(|mut object| {
            rename(&mut object, unique);
            replace(&mut object, NAMESPACE, namespace);
            narrow(&mut object, target);
            object
        })
        .collect())
}

fn render() -> anyhow::Result<String> {
    let (repository, tag) = IMAGE.rsplit_once(':').context("the image has a tag")?;
    let image = format!("--set=image.repository={repository},image.tag={tag}");
    chart::template(Helm::V4, &["--set", LEAST, &image])
}

/// Calls what has no namespace, and what refers to it, by another name.
fn rename(object: &mut Value, unique: &str) {
    let global = object.pointer("/metadata/namespace").is_none();
    let mut names = Vec::new();
    if global {
        names.push("/metadata/name");
    }
    if object.pointer("/roleRef/kind") == Some(&json!("ClusterRole")) {
        names.push("/roleRef/name");
    }
    for pointer in names {
        if let Some(name) = object.pointer_mut(pointer) {
            *name = json!(unique);
        }
    }
    for rule in entries(object, "/rules") {
        if rule.pointer("/resources/0") == Some(&json!("mutatingwebhookconfigurations")) {
            replace(rule, NAME, unique);
        }
    }
    let flag = |name: &str| format!("--webhook-configuration={name}");
    replace(object, &flag(NAME), &flag(unique));
}

/// Puts one text in the place of another, also as the value of a flag.
fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text == from => to.clone_into(text),
        Value::String(text) => {
            if let Some((flag, value)) = text.split_once('=')
                && flag.starts_with("--")
                && value == from
            {
                *text = format!("{flag}={to}");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, from, to)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| replace(field, from, to)),
        _ => {}
    }
}

/// Adds to what the chart leaves out that only `target` is in.
fn narrow(object: &mut Value, target: &str) {
    for webhook in entries(object, "/webhooks") {
        let selected = webhook.pointer_mut("/namespaceSelector/matchExpressions");
        if let Some(Value::Array(expressions)) = selected {
            expressions.push(json!({
                "key": "kubernetes.io/metadata.name", "operator": "In", "values": [target],
            }));
        }
    }
}

fn entries<'a>(object: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = object.pointer_mut(pointer).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}
