//! The keeper of an agent's Pod as a child process.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use shared::contract;

use crate::binaries;
use crate::container::Container;
use crate::daemon::Daemon;
use crate::node::Node;
use crate::program::Program;

/// How a keeper is started, and how its agent finds it.
#[derive(Debug)]
pub struct Keeper;

impl Keeper {
    /// Starts the keeper of the agent's Pod `instance` on `node`, and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(node: &Node, instance: &str) -> anyhow::Result<Program> {
        let socket = socket(node);
        fs::create_dir_all(node.directory().join(contract::PRIVATE_NAME))?;
        let log = node.directory().join(format!("keeper-{instance}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(binaries::keeper());
        command.arg("--socket").arg(socket);
        command.args(["--instance", instance]).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let child = node.namespace().call(move || command.spawn())?;
        Ok(Program::new("keeper", child, &log))
    }

    /// Starts the keeper of the agent's Pod `instance` in a container of the node, without any
    /// privilege, and waits for nothing. Its agent is started with [`CONTAINED`](Self::CONTAINED).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn contained(daemon: Daemon<'_>, instance: &str) -> anyhow::Result<Program> {
        let node = daemon.node();
        let log = node.directory().join(format!("keeper-{instance}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let container = Container::new(node.directory(), contract::AGENT_ID, &[])
            .sees(binaries::keeper(), "/caios-keeper")
            .writes(daemon.directory(), contract::NODE_DIRECTORY);
        let mut command = Command::new("/caios-keeper");
        command.args(["--instance", instance]).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let child = container.spawn(node.namespace(), command)?;
        Ok(Program::new("keeper", child, &log))
    }

    /// Where the agent in a container finds a [contained](Self::contained) keeper.
    pub const CONTAINED: [&str; 2] = ["--keeper-socket", contract::KEEPER_SOCKET_PATH];

    /// The flags of the agent that belongs to the keeper of `instance`.
    pub fn arguments(node: &Node, instance: &str) -> Vec<String> {
        vec![
            format!("--keeper-socket={}", socket(node).display()),
            format!("--instance={instance}"),
        ]
    }
}

fn socket(node: &Node) -> PathBuf {
    let private = node.directory().join(contract::PRIVATE_NAME);
    private.join(contract::KEEPER_SOCKET)
}
