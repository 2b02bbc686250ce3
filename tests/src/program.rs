//! A program of ours as a child process.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::family::{all_ended, children};
use crate::wait;

/// A running program that writes to a log. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Takes over a child process that people call `name`.
    pub(crate) fn new(name: &'static str, child: Child, log: &Path) -> Self {
        let log = log.to_owned();
        Self { name, child, log }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a crash does: at once, and without a word. Waits until its children have ended too: the
    /// next one is started after the heir of this one.
    ///
    /// # Errors
    /// When it cannot be ended, or one of them does not end.
    pub fn crash(mut self) -> anyhow::Result<()> {
        let children = children(Pid::from_raw(i32::try_from(self.child.id())?));
        self.child.kill()?;
        self.child.wait()?;
        all_ended(&children)
    }

    /// Asks it to end, and waits for nothing.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        let id = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(id, Signal::SIGTERM).with_context(|| format!("failed to signal the {}", self.name))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it does not end in time; the error shows its log.
    pub fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let (what, mut status) = (format!("the {} ends", self.name), None);
        wait::until(&what, Duration::from_secs(30), || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })
        .with_context(|| self.log())?;
        status.with_context(|| format!("the {} ended", self.name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
