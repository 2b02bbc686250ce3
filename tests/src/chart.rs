//! The chart, rendered by the real Helm without a cluster.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::control_plane::Helm;
use crate::tools;

/// The namespace of its releases: where people of the existing webhook have it.
pub const NAMESPACE: &str = "pod-identity-webhook";
/// The name of its releases.
pub const RELEASE: &str = "caios";
/// Everything that must be given; what a values file of the existing webhook has.
pub const LEAST: &str = "config.orgID=my-org,config.region=US-EAST-04A";

/// A path in the repository.
pub fn path(inside: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .with_file_name(inside)
        .display()
        .to_string()
}

/// Runs Helm without a cluster: what it printed.
///
/// # Errors
/// When it is not installed or fails; the error has its complaint.
pub fn helm(version: Helm, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(tools::program("helm", version.program())?)
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
///
/// # Errors
/// As [`helm`].
pub fn template(version: Helm, values: &[&str]) -> anyhow::Result<String> {
    let chart = path("helm");
    // A version that the chart allows; Helm's own default is its own client's.
    let mut arguments = vec!["template", RELEASE, &chart, "--namespace", NAMESPACE];
    arguments.extend(["--kube-version", "1.33.0"]);
    arguments.extend(values);
    helm(version, &arguments)
}

/// The commands of one step of the README's tutorial, which begins with this heading.
///
/// # Panics
/// When there is no such step, or it has none.
pub fn commands(readme: &str, heading: &str) -> String {
    let mut steps = readme.split("\n### ");
    let step = steps.find(|step| step.starts_with(heading));
    let step = step.and_then(|step| step.split("\n## ").next());
    let blocks = step.unwrap_or_default().split("```sh\n").skip(1);
    let commands: String = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(
        !commands.is_empty(),
        "README has no commands under `{heading}`"
    );
    commands
}
