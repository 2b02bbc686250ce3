//! One case of what the injector does to a Pod: a file of `tests/platform/cases`.
//!
//! The injector's own tests run the cases through its library, the platform tests through the real
//! API server and the real binary; both take this file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// The flags of the injector for every case that does not say otherwise.
const FLAGS: [(&str, &str); 4] = [
    ("image", "registry.example/caios:1"),
    ("audience", "https://coreweave.com/iam"),
    ("additional-audience", "my-audience"),
    ("region", "US-EAST-04A"),
];

const PREFIX: &str = "caios.coreweave.com/";

/// A Pod, what surrounds it, and what becomes of it.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Case {
    /// Which case it is; the file's name.
    #[serde(skip)]
    pub(crate) name: String,
    /// What it shows.
    #[expect(dead_code, reason = "for readers of the file")]
    pub(crate) description: String,
    /// Flags of the injector without their dashes; null takes one away.
    #[serde(default)]
    settings: BTreeMap<String, Option<String>>,
    /// Labels of the namespace.
    #[serde(default)]
    pub(crate) namespace: BTreeMap<String, String>,
    /// Other objects in the namespace.
    #[serde(default)]
    pub(crate) objects: Vec<Value>,
    /// Annotations of the ServiceAccount under our prefix.
    #[serde(default)]
    pub(crate) service_account: BTreeMap<String, String>,
    /// Metadata and spec of the Pod.
    pub(crate) pod: Value,
    /// The label of the decision.
    pub(crate) decision: String,
    /// What the Pod gets; all of it.
    #[serde(default)]
    adds: Adds,
    /// All warnings, in their order.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    /// The message of a refusal.
    pub(crate) refusal: Option<String>,
    /// Part of what the API server says when it refuses the patched Pod itself.
    pub(crate) forbidden: Option<String>,
}

/// What a Pod gets. An entry is a name in `parts.yaml`; or an object with such a name as `part` and
/// values at JSON pointers that differ; or for variables `NAME=value`.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Adds {
    volumes: Vec<Value>,
    init_containers: Vec<Value>,
    containers: BTreeMap<String, ContainerAdds>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ContainerAdds {
    env: Vec<Value>,
    mounts: Vec<Value>,
    /// Variables that get another value.
    changed: BTreeMap<String, String>,
}

/// Reads every case of the directory, in the order of their names.
pub(crate) fn all(directory: &Path) -> Vec<Case> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "yaml"))
        .filter(|path| path.file_name().is_some_and(|it| it != "parts.yaml"))
        .collect();
    files.sort();
    let parts = yaml(&directory.join("parts.yaml"));
    files.iter().map(|file| Case::read(file, &parts)).collect()
}

fn yaml(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

impl Case {
    fn read(file: &Path, parts: &Value) -> Self {
        let mut case: Self = serde_json::from_value(yaml(file))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        case.name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        case.adds.expand(parts);
        case
    }

    /// The flags of the injector.
    pub(crate) fn flags(&self) -> Vec<String> {
        let usual = FLAGS.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        let mut flags = BTreeMap::from(usual);
        flags.extend(self.settings.clone());
        flags
            .into_iter()
            .filter_map(|(name, value)| Some(format!("--{name}={}", value?)))
            .collect()
    }

    /// Whether the Pod goes through the strict webhook.
    pub(crate) fn required(&self) -> bool {
        let labels = self.pod.pointer("/metadata/labels");
        labels.and_then(|labels| labels.get(format!("{PREFIX}inject"))) == Some(&"true".into())
    }

    /// The Pod as it is to be.
    pub(crate) fn expected(&self) -> Value {
        let mut pod = self.pod.clone();
        append(&mut pod["spec"], "volumes", &self.adds.volumes);
        for (name, adds) in &self.adds.containers {
            let container = container(&mut pod, name)
                .unwrap_or_else(|| panic!("{}: no container {name}", self.name));
            for (variable, value) in &adds.changed {
                let env = container["env"].as_array_mut().unwrap();
                let entry = env.iter_mut().find(|entry| entry["name"] == **variable);
                entry.unwrap()["value"] = value.clone().into();
            }
            append(container, "env", &adds.env);
            append(container, "volumeMounts", &adds.mounts);
        }
        if !self.adds.init_containers.is_empty() {
            let mut all = self.adds.init_containers.clone();
            let rest = pod["spec"].get("initContainers").and_then(Value::as_array);
            all.extend(rest.into_iter().flatten().cloned());
            pod["spec"]["initContainers"] = Value::Array(all);
        }
        pod
    }
}

fn append(object: &mut Value, key: &str, items: &[Value]) {
    if !items.is_empty() {
        let fields = object.as_object_mut().unwrap();
        let list = fields
            .entry(key)
            .or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().unwrap().extend(items.iter().cloned());
    }
}

fn container<'a>(pod: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let spec = pod["spec"].as_object_mut()?;
    spec.iter_mut()
        .filter(|(key, _)| ["initContainers", "containers"].contains(&key.as_str()))
        .filter_map(|(_, list)| list.as_array_mut())
        .flatten()
        .find(|container| container["name"] == name)
}

impl Adds {
    fn expand(&mut self, parts: &Value) {
        let lists = [
            ("volumes", &mut self.volumes),
            ("initContainers", &mut self.init_containers),
        ];
        let inner = self
            .containers
            .values_mut()
            .flat_map(|it| [("env", &mut it.env), ("mounts", &mut it.mounts)]);
        for (kind, list) in lists.into_iter().chain(inner) {
            for item in list {
                *item = expanded(item, &parts[kind]);
            }
        }
    }
}

fn expanded(item: &Value, parts: &Value) -> Value {
    let part = |name: &str| {
        let found = parts.get(name);
        found.unwrap_or_else(|| panic!("no part `{name}`")).clone()
    };
    match item {
        Value::String(text) => match text.split_once('=') {
            Some((name, value)) => serde_json::json!({"name": name, "value": value}),
            None => part(text),
        },
        Value::Object(fields) => with_changes(part(fields["part"].as_str().unwrap()), fields),
        _ => panic!("neither a part nor a change of one: {item}"),
    }
}

fn with_changes(mut part: Value, fields: &Map<String, Value>) -> Value {
    for (pointer, value) in fields.iter().filter(|(key, _)| *key != "part") {
        let at = part.pointer_mut(pointer);
        *at.unwrap_or_else(|| panic!("the part has no {pointer}")) = value.clone();
    }
    part
}
