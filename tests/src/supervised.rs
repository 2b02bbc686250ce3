//! An agent under its supervisor, as in its container: the supervisor is the first process of a
//! process namespace.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent::Agent;
use crate::family::{children, is_heir};
use crate::node::Node;
use crate::wait;

/// How long a supervisor and its worker may take to appear, on a machine that is busy with others.
const START: Duration = Duration::from_secs(20);

/// A supervisor with its workers. Killed when dropped.
#[derive(Debug)]
pub struct Supervised {
    /// What serves, whichever worker it is; its end is the supervisor's.
    pub agent: Agent,
    supervisor: Pid,
}

impl Supervised {
    /// Starts a supervisor on `node` with exactly these flags.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(node: &Node, arguments: &[String]) -> anyhow::Result<Self> {
        let agent = Agent::supervised(node.namespace(), arguments, &node.agent_log())?;
        let outside = i32::try_from(agent.id())?;
        let mut supervisor = None;
        wait::until("there is a supervisor", START, || {
            supervisor = children(Pid::from_raw(outside)).first().copied();
            supervisor.is_some()
        })?;
        let supervisor = supervisor.context("there is a supervisor")?;
        Ok(Self { agent, supervisor })
    }

    /// Starts a supervisor with the flags of the node's agents and further ones, and waits until its
    /// worker is ready.
    ///
    /// # Errors
    /// When that does not become ready; the error shows its log.
    pub fn ready(node: &Node, further: &[&str]) -> anyhow::Result<Self> {
        let spawned = Self::spawn(node, &arguments(node, further))?;
        Ok(Self {
            agent: spawned.agent.ready()?,
            ..spawned
        })
    }

    /// As [`ready`](Self::ready), for a supervisor that is not the first process of its namespace.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn ready_among_others(node: &Node, further: &[&str]) -> anyhow::Result<Self> {
        let (arguments, log) = (arguments(node, further), node.agent_log());
        let agent = Agent::supervised_among_others(node.namespace(), &arguments, &log)?.ready()?;
        let supervisor = Pid::from_raw(i32::try_from(agent.id())?);
        Ok(Self { agent, supervisor })
    }

    /// The supervisor's process id.
    pub fn supervisor(&self) -> Pid {
        self.supervisor
    }

    /// The children of the supervisor: the worker, the heir of one that has crashed, and what nobody has
    /// reaped yet.
    pub fn children(&self) -> Vec<Pid> {
        children(self.supervisor)
    }

    /// The worker that runs now.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn worker(&self) -> anyhow::Result<Pid> {
        let mut worker = None;
        wait::until("there is a worker", START, || {
            worker = self.children().into_iter().find(|child| !is_heir(*child));
            worker.is_some()
        })?;
        worker.context("there is a worker")
    }

    /// The heir of the worker that runs now.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn heir(&self) -> anyhow::Result<Pid> {
        let worker = self.worker()?;
        let mut heir = None;
        wait::until("there is an heir", START, || {
            heir = children(worker).into_iter().find(|child| is_heir(*child));
            heir.is_some()
        })?;
        heir.context("there is an heir")
    }

    /// Sends a signal to the supervisor.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(self.supervisor, signal)?)
    }
}

/// The flags of the node's agents, and further ones.
fn arguments(node: &Node, further: &[&str]) -> Vec<String> {
    let mut arguments = node.agent_arguments();
    arguments.extend(further.iter().map(|&argument| argument.to_owned()));
    arguments
}
