//! The chart as Helm renders it, without a cluster.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tests::control_plane::Helm;
use tests::tools;

/// Where people of the existing webhook have it.
pub(super) const NAMESPACE: &str = "pod-identity-webhook";
pub(super) const RELEASE: &str = "caios";
/// Everything that must be given; what a values file of the existing webhook has.
pub(super) const LEAST: &str = "config.orgID=my-org,config.region=US-EAST-04A";
pub(super) const BOTH: [Helm; 2] = [Helm::V3, Helm::V4];
/// The shapes that are kept as golden files, each with its values beside.
pub(super) const SHAPES: [&str; 3] = ["defaults", "everything", "cert-manager"];

/// A path in the repository.
pub(super) fn path(inside: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .with_file_name(inside)
        .display()
        .to_string()
}

/// A file beside these tests.
pub(super) fn beside(name: &str) -> PathBuf {
    PathBuf::from(path("tests/platform/chart")).join(name)
}

/// The argument for the values of a shape.
pub(super) fn shape(name: &str) -> String {
    let values = beside(&format!("golden/{name}.values.yaml"));
    format!("--values={}", values.display())
}

/// Runs Helm without a cluster: what it printed, or its complaint as the error.
pub(super) fn helm(version: Helm, arguments: &[&str]) -> anyhow::Result<String> {
    let program = match version {
        Helm::V3 => "helm3",
        Helm::V4 => "helm4",
    };
    let output = Command::new(tools::program("helm", program)?)
        .args(arguments)
        .env_clear()
        .env("HOME", path("target"))
        .output()
        .context("failed to start helm")?;
    if !output.status.success() {
        bail!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Renders the chart as text.
pub(super) fn template(version: Helm, values: &[&str]) -> anyhow::Result<String> {
    let chart = path("helm");
    // A version that the chart allows; Helm's own default is its own client's.
    let mut arguments = vec!["template", RELEASE, &chart, "--namespace", NAMESPACE];
    arguments.extend(["--kube-version", "1.33.0"]);
    arguments.extend(values);
    helm(version, &arguments)
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
        let mut found = self
            .0
            .iter()
            .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        match (found.next(), found.next()) {
            (Some(object), None) => object,
            _ => panic!("not one {kind} `{name}`"),
        }
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
