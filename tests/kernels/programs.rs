//! Test programs that run inside the machine, as cargo builds them for this one.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// Where they are.
pub(crate) struct Programs {
    pub(crate) guest: PathBuf,
    pub(crate) agent: PathBuf,
}

/// What cargo says of an executable that it has built.
#[derive(Deserialize)]
struct Artifact {
    executable: PathBuf,
    profile: Profile,
    target: Target,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds what is missing, once.
pub(crate) fn built() -> anyhow::Result<&'static Programs> {
    static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> anyhow::Result<Programs> {
    let cargo = std::env::var_os("CARGO").context("run this by `cargo test`")?;
    // The whole workspace, as plain `cargo test` does: its features are the same then, and nothing is built twice.
    let mut command = Command::new(cargo);
    command.args(["test", "--workspace", "--locked", "--quiet", "--no-run"]);
    command.args(["--lib", "--message-format", "json"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    let output = command.output().context("failed to start cargo")?;
    ensure!(
        output.status.success(),
        "failed to build the tests: see cargo's message above"
    );
    let artifacts: Vec<Artifact> = String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let agent = artifacts
        .into_iter()
        .find(|artifact| artifact.profile.test && artifact.target.name == "agent")
        .context("cargo built no tests of the agent")?;
    Ok(Programs {
        guest: env!("CARGO_BIN_EXE_guest").into(),
        agent: agent.executable,
    })
}
