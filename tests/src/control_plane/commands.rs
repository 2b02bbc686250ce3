//! The real `kubectl` and `helm`, as an admin runs them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, ensure};

use super::ControlPlane;
use crate::tools;

/// Which Helm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helm {
    /// 3.17.
    V3,
    /// 4.3.
    V4,
}

impl Helm {
    /// What its program is called among the tools.
    pub fn program(self) -> &'static str {
        match self {
            Self::V3 => "helm3",
            Self::V4 => "helm4",
        }
    }
}

impl ControlPlane {
    /// `kubectl` with every right; run it by [`output`](Self::output).
    ///
    /// # Errors
    /// When it is not installed.
    pub fn kubectl(&self) -> anyhow::Result<Command> {
        self.command(&tools::program("helm", "kubectl")?)
    }

    /// `helm` with every right; run it by [`output`](Self::output).
    ///
    /// # Errors
    /// When it is not installed.
    pub fn helm(&self, version: Helm) -> anyhow::Result<Command> {
        self.command(&tools::program("helm", version.program())?)
    }

    /// A program with a kubeconfig, and nothing else of the test's environment.
    fn command(&self, program: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.join("home"))
            .env("KUBECONFIG", self.admin_kubeconfig()?)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a program inside and waits for its output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, mut command: Command) -> anyhow::Result<Output> {
        let shown = format!("{command:?}");
        self.network
            .call(move || command.output())
            .with_context(|| format!("failed to start {shown}"))
    }

    /// Runs a program inside with `input`, and waits for its output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output_with(&self, mut command: Command, input: &str) -> anyhow::Result<Output> {
        let (shown, input) = (format!("{command:?}"), input.to_owned());
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.network
            .call(move || {
                let mut child = command.spawn()?;
                if let Some(mut stdin) = child.stdin.take() {
                    // A program that ends early has said why.
                    let _ = stdin.write_all(input.as_bytes());
                }
                child.wait_with_output()
            })
            .with_context(|| format!("failed to start {shown}"))
    }

    /// Runs a program inside; what it printed.
    ///
    /// # Errors
    /// When it cannot be started or fails; the error has what it printed.
    pub fn printed(&self, command: Command) -> anyhow::Result<String> {
        let shown = format!("{command:?}");
        let output = self.output(command)?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        ensure!(status.success(), "{shown}: {status}\n{printed}{complaint}");
        Ok(printed)
    }
}
