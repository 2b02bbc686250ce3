//! The native sidecar `caios-enroll relay` of a Pod.

use std::fs::{self, File};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use shared::contract;

use crate::node::Node;
use crate::pod::Pod;
use crate::program::Program;
use crate::{binaries, wait};

/// A running relay. Killed when dropped.
#[derive(Debug)]
pub struct Relay(Program);

impl Relay {
    /// Starts the relay of `pod` to the agent of `node`, and waits until somebody listens where it
    /// is to.
    ///
    /// # Errors
    /// When nobody listens in time.
    pub fn start(node: &Node, pod: &Pod) -> anyhow::Result<Self> {
        let log = pod.token_file().with_extension("relay.log");
        let mut command = Command::new(binaries::enroll());
        let socket = node.public_directory().join(contract::AGENT_SOCKET);
        command.arg("relay").arg("--socket").arg(socket);
        command.stdin(Stdio::null()).stderr(File::create(&log)?);
        let child = pod.namespace().call(move || command.spawn())?;
        let relay = Self(Program::new("relay", child, &log));
        wait::until("the relay listens", Duration::from_secs(10), || {
            Self::check(pod).is_ok_and(|status| status.success())
        })?;
        Ok(relay)
    }

    /// Runs the sidecar's startup probe.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn check(pod: &Pod) -> anyhow::Result<ExitStatus> {
        let mut command = Command::new(binaries::enroll());
        command.args(["relay", "--check"]).stderr(Stdio::null());
        Ok(pod.output(command)?.status)
    }

    /// Waits until it has been asleep, and has not run once, for 30 looks on end.
    ///
    /// # Errors
    /// When it never rests, or has ended.
    pub fn rests(&self) -> anyhow::Result<()> {
        let mut last = None;
        let mut alike = 0;
        wait::until("the relay rests", Duration::from_mins(1), || {
            let asleep = self
                .status("State:")
                .is_some_and(|state| state.starts_with('S'));
            let turns = self.status("voluntary_ctxt_switches:");
            alike = if asleep && turns == last {
                alike + 1
            } else {
                0
            };
            last = turns;
            alike == 30
        })
    }

    /// The field `name` of its `/proc` status. `None` when it has ended.
    fn status(&self, name: &str) -> Option<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let mut values = status.lines().filter_map(|line| line.strip_prefix(name));
        Some(values.next()?.trim().to_owned())
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let value = self.status("VmRSS:").context("no VmRSS in status")?;
        let kilobytes: u64 = value.trim_end_matches(" kB").parse()?;
        Ok(1024 * kilobytes)
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        self.0.ask_to_end()
    }

    /// Waits until it has ended, and returns its exit code and what it has said.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn ended(mut self) -> anyhow::Result<(Option<i32>, String)> {
        let status = self.0.ended()?;
        Ok((status.code(), self.0.log()))
    }
}
