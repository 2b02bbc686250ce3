//! The agent as a child process on a node.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::admin::Admin;
use crate::binaries;
use crate::container::Container;
use crate::http::Answer;
use crate::namespace::Namespace;
use crate::program::Program;
use crate::wait;

/// Where every agent of the tests has its metrics, in its own network namespace.
pub const ADMIN: &str = "127.0.0.1:9469";

/// What would send the agent's own calls somewhere else than to the stand-in.
const PROXY_VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// A running agent. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    admin: Admin,
    program: Program,
}

impl Agent {
    /// Starts `caios-agent run` with `arguments` and these environment `variables` besides those
    /// of the test, and waits for nothing. Proxies of the test's own environment are not for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(
        node: &Arc<Namespace>,
        arguments: &[String],
        variables: &[(&str, &str)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = command(Command::new(binaries::agent()), "run", arguments, log)?;
        command.envs(variables.iter().copied());
        Self::born(node, command, log)
    }

    /// Starts `caios-agent supervise` with `arguments`, as the first process of a process namespace,
    /// and waits for nothing. What this is, signals go to and ends is the supervisor.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn supervised(
        node: &Arc<Namespace>,
        arguments: &[String],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--"]);
        unshare.arg(binaries::agent());
        let command = command(unshare, "supervise", arguments, log)?;
        Self::born(node, command, log)
    }

    /// Starts `caios-agent supervise` with `arguments` as a process like any other, as where containers
    /// of a Pod share their processes, and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn supervised_among_others(
        node: &Arc<Namespace>,
        arguments: &[String],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let program = Command::new(binaries::agent());
        let command = command(program, "supervise", arguments, log)?;
        Self::born(node, command, log)
    }

    fn born(node: &Arc<Namespace>, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let child = node
            .call(move || command.spawn())
            .context("failed to start the agent")?;
        Ok(Self {
            admin: Admin::new(node, ADMIN.parse()?),
            program: Program::new("agent", child, log),
        })
    }

    /// Starts `/caios-agent supervise` with `arguments` in a container of the node, as the DaemonSet
    /// does, and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn contained(
        node: &Arc<Namespace>,
        container: &Container,
        arguments: &[String],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let container = container.clone().sees(binaries::agent(), "/caios-agent");
        let command = command(Command::new("/caios-agent"), "supervise", arguments, log)?;
        Ok(Self {
            admin: Admin::new(node, ADMIN.parse()?),
            program: Program::new("agent", container.spawn(node, command)?, log),
        })
    }

    /// The same agent with its metrics at `address`.
    #[must_use]
    pub fn with_admin(mut self, node: &Arc<Namespace>, address: SocketAddr) -> Self {
        self.admin = Admin::new(node, address);
        self
    }

    /// Ends it as a crash does: at once, and without a word.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn crash(self) -> anyhow::Result<()> {
        self.program.crash()
    }

    /// Asks it to end, and waits for nothing.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        self.program.ask_to_end()
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the error shows its log.
    pub fn ready(self) -> anyhow::Result<Self> {
        let limit = Duration::from_secs(20);
        wait::until("the agent is ready", limit, || self.admin.ready())
            .with_context(|| format!("the agent's log:\n{}", self.log()))?;
        Ok(self)
    }

    /// Asks the admin port.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn admin(&self, path: &str) -> anyhow::Result<Answer> {
        self.admin.get(path)
    }

    /// The value of one series, named as Prometheus shows it.
    ///
    /// # Errors
    /// When the agent does not answer or has no such series.
    pub fn metric(&self, series: &str) -> anyhow::Result<f64> {
        self.admin.metric(series)
    }

    /// The value of one series that counts things, named as Prometheus shows it.
    ///
    /// # Panics
    /// When the agent does not answer, or has no such series of whole numbers.
    #[expect(
        clippy::expect_used,
        reason = "a series that is missing is the test's failure"
    )]
    pub fn count(&self, series: &str) -> u64 {
        let text = self
            .admin
            .series(series)
            .expect("the agent shows the series");
        text.parse().expect("the series counts in whole numbers")
    }

    /// What the agent has written so far.
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.ask_to_end()?;
        self.ended()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it does not end in time; the error shows its log.
    pub fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        self.program.ended()
    }
}

fn command(
    mut command: Command,
    subcommand: &str,
    arguments: &[String],
    log: &Path,
) -> anyhow::Result<Command> {
    let output = File::options().create(true).append(true).open(log)?;
    command.arg(subcommand).args(arguments).stdin(Stdio::null());
    command.stdout(output.try_clone()?).stderr(output);
    for name in PROXY_VARIABLES {
        command.env_remove(name);
    }
    Ok(command)
}
