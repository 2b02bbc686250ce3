//! Flags of the injector: the chart's, and what a test puts in their place.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// The flags of a Deployment's container, each `--name=value`, without `run`.
/// The ServiceAccount is mounted at `own`.
pub(super) fn of(deployment: &Value, own: &Path) -> anyhow::Result<Vec<String>> {
    let container = deployment.pointer("/spec/template/spec/containers/0");
    let container = container.context("the Deployment has a container")?;
    anyhow::ensure!(
        container.pointer("/command/0") == Some(&"/caios-injector".into()),
        "the Deployment's command is the injector's: {container}"
    );
    let arguments = container.pointer("/args").and_then(Value::as_array);
    let mut words = arguments.into_iter().flatten().filter_map(Value::as_str);
    anyhow::ensure!(words.next() == Some("run"), "the first argument is `run`");
    let mounted = format!("--service-account-directory={}", own.display());
    Ok(words.map(str::to_owned).chain([mounted]).collect())
}

/// Each flag and its value as words of their own.
pub(super) fn pairs(flags: &[String]) -> Vec<String> {
    let words = flags.iter().flat_map(|flag| flag.splitn(2, '='));
    words.map(str::to_owned).collect()
}

/// The ServiceAccount that a Deployment's Pods run as.
pub(super) fn service_account(deployment: &Value) -> anyhow::Result<&str> {
    let account = deployment.pointer("/spec/template/spec/serviceAccountName");
    account
        .and_then(Value::as_str)
        .context("the Deployment names a ServiceAccount")
}

/// `given`, as `--name=value`, without what others of it replace: a flag of the chart gives way to
/// another value of the same name.
pub(super) fn merged(given: &[String], chart: &[String]) -> Vec<String> {
    let given = joined(given);
    let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
    let replaced: HashSet<String> = given
        .iter()
        .filter(|flag| !chart.contains(flag))
        .map(|flag| name(flag))
        .collect();
    let mut kept = Vec::new();
    for flag in given {
        let gives_way = chart.contains(&flag) && replaced.contains(&name(&flag));
        if !gives_way && !kept.contains(&flag) {
            kept.push(flag);
        }
    }
    kept
}

/// Each flag as one word.
fn joined(words: &[String]) -> Vec<String> {
    let mut flags: Vec<String> = Vec::new();
    for word in words {
        match flags.last_mut() {
            Some(flag) if !word.starts_with("--") => {
                flag.push('=');
                flag.push_str(word);
            }
            _ => flags.push(word.clone()),
        }
    }
    flags
}
