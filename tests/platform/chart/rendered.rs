//! The chart as Helm renders it, without a cluster.

use std::path::PathBuf;

use serde_json::Value;
pub(super) use tests::chart::{LEAST, NAMESPACE, RELEASE, helm, path, template};
use tests::control_plane::Helm;

pub(super) const BOTH: [Helm; 2] = [Helm::V3, Helm::V4];
/// The shapes that are kept as golden files, each with its values beside.
pub(super) const SHAPES: [&str; 3] = ["defaults", "everything", "cert-manager"];

/// A file beside these tests.
pub(super) fn beside(name: &str) -> PathBuf {
    PathBuf::from(path("tests/platform/chart")).join(name)
}

/// The argument for the values of a shape.
pub(super) fn shape(name: &str) -> String {
    let values = beside(&format!("golden/{name}.values.yaml"));
    format!("--values={}", values.display())
}

/// The objects of a rendered chart.
pub(super) struct Rendered(Vec<Value>);

impl Rendered {
    pub(super) fn new(values: &[&str]) -> Self {
        let text = template(Helm::V4, values).unwrap();
        Self(serde_saphyr::from_multiple(&text).unwrap())
    }

    /// The one object of a kind with this name.
    pub(super) fn object(&self, kind: &str, name: &str) -> &Value {
        let found = self.find(kind, name);
        found.unwrap_or_else(|| panic!("not one {kind} `{name}`"))
    }

    /// The object of a kind with this name, if there is exactly one.
    pub(super) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        let mut found = self
            .0
            .iter()
            .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.next().filter(|_| found.next().is_none())
    }

    /// The Pod of the agent's DaemonSet.
    pub(super) fn agent(&self) -> &Value {
        &self.object("DaemonSet", "caios-agent")["spec"]["template"]["spec"]
    }

    /// The Pod of the injector's Deployment.
    pub(super) fn injector(&self) -> &Value {
        &self.object("Deployment", "caios-injector")["spec"]["template"]["spec"]
    }
}

/// The texts of a list.
pub(super) fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}
