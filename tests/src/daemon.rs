//! The agent as the DaemonSet runs it: the node's directory made by `caios-agent prepare` without a
//! capability, the agent as its own user with a read-only root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::ensure;
use shared::contract::{AGENT_ID, NODE_DIRECTORY};

use crate::agent::{ADMIN, Agent};
use crate::binaries;
use crate::container::Container;
use crate::node::Node;

/// The DaemonSet's Pod on a node.
#[derive(Clone, Copy)]
pub struct Daemon<'a> {
    node: &'a Node,
}

impl<'a> Daemon<'a> {
    /// Makes the directory of the node as the kubelet makes it for a hostPath volume.
    ///
    /// # Errors
    /// When it is there already.
    pub fn new(node: &'a Node) -> anyhow::Result<Self> {
        let daemon = Self { node };
        fs::create_dir(daemon.directory())?;
        fs::set_permissions(daemon.directory(), Permissions::from_mode(0o755))?;
        Ok(daemon)
    }

    /// The node.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// The directory of the node.
    pub fn directory(&self) -> PathBuf {
        self.node.directory().join("run")
    }

    /// The directory in it that Pods may reach into.
    pub fn public_directory(&self) -> PathBuf {
        self.directory().join("public")
    }

    /// Runs `caios-agent prepare` as the init container of the DaemonSet does, in these groups.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn prepare_in(&self, groups: &[u32]) -> anyhow::Result<Output> {
        let container = Container::new(self.node.directory(), 0, groups)
            .sees(binaries::agent(), "/caios-agent")
            .writes(self.directory(), NODE_DIRECTORY);
        let mut command = Command::new("/caios-agent");
        command.arg("prepare").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = container.spawn(self.node.namespace(), command)?;
        Ok(child.wait_with_output()?)
    }

    /// Prepares the directory, in the group that the chart gives the init container.
    ///
    /// # Errors
    /// When `caios-agent prepare` fails; the error shows what it printed.
    pub fn prepare(&self) -> anyhow::Result<()> {
        let output = self.prepare_in(&[AGENT_ID])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "caios-agent prepare failed: {said}"
        );
        Ok(())
    }

    /// Puts the public directory in the place where the node's Pods look for it.
    ///
    /// # Errors
    /// When something else is there.
    pub fn mount_for_pods(&self) -> anyhow::Result<()> {
        fs::remove_dir(self.node.public_directory())?;
        symlink(self.public_directory(), self.node.public_directory())?;
        Ok(())
    }

    /// Starts the agent with further flags, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; the error shows its log.
    pub fn agent(&self, further: &[&str]) -> anyhow::Result<Agent> {
        self.agent_at(ADMIN, further)
    }

    /// As [`agent`](Self::agent), with its metrics at `admin`: a second one on the node.
    ///
    /// # Errors
    /// As there.
    pub fn agent_at(&self, admin: &str, further: &[&str]) -> anyhow::Result<Agent> {
        let node = self.node;
        let certificates = node.directory().join("ca.pem");
        let container = Container::new(node.directory(), AGENT_ID, &[])
            .sees(&certificates, "/ca.pem")
            .writes(self.directory(), NODE_DIRECTORY);
        let inside = |argument: String| {
            argument
                .replace(&shown(&certificates), "/ca.pem")
                .replace(&shown(node.directory()), NODE_DIRECTORY)
                .replace(ADMIN, admin)
        };
        let mut arguments: Vec<_> = node.agent_arguments().into_iter().map(inside).collect();
        arguments.extend(further.iter().map(|&argument| argument.to_owned()));
        let log = node.agent_log();
        let agent = Agent::contained(node.namespace(), &container, &arguments, &log)?;
        agent.with_admin(node.namespace(), admin.parse()?).ready()
    }
}

/// That none of the process's capability sets has a capability.
///
/// # Errors
/// When one has, or the process is gone.
pub fn ensure_without_capability(process: u32) -> anyhow::Result<()> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set));
        let empty = line.is_some_and(|line| line.ends_with("\t0000000000000000"));
        ensure!(empty, "{line:?}");
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
