//! The keeper of an agent's Pod as a child process.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shared::contract;

use crate::container::Container;
use crate::daemon::Daemon;
use crate::node::Node;
use crate::{binaries, wait};

/// A running keeper. Killed when dropped.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    log: PathBuf,
}

impl Keeper {
    /// Starts the keeper of the agent's Pod `instance` on `node`, and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(node: &Node, instance: &str) -> anyhow::Result<Self> {
        let socket = socket(node);
        fs::create_dir_all(node.directory().join(contract::PRIVATE_NAME))?;
        let log = node.directory().join(format!("keeper-{instance}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(binaries::keeper());
        command.arg("--socket").arg(socket);
        command.args(["--instance", instance]).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let child = node.namespace().call(move || command.spawn())?;
        Ok(Self { child, log })
    }

    /// Starts the keeper of the agent's Pod `instance` in a container of the node, without any
    /// privilege, and waits for nothing. Its agent is started with [`CONTAINED`](Self::CONTAINED).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn contained(daemon: Daemon<'_>, instance: &str) -> anyhow::Result<Self> {
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
        Ok(Self { child, log })
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

    /// Ends it as a crash does: at once, and without a word.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn crash(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits for nothing.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        let id = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(id, Signal::SIGTERM).context("failed to signal the keeper")
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it does not end in time; the error shows its log.
    pub fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let mut status = None;
        wait::until("the keeper ends", Duration::from_secs(30), || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })
        .with_context(|| self.log())?;
        status.context("the keeper ended")
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn socket(node: &Node) -> PathBuf {
    let private = node.directory().join(contract::PRIVATE_NAME);
    private.join(contract::KEEPER_SOCKET)
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
