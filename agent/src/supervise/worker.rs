//! The worker as a child process.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait, waitpgid};

use super::RESTARTS_VARIABLE;
use super::policy::End;

/// A worker that has not been reaped yet.
#[derive(Debug)]
pub(super) struct Worker(Pid);

impl Worker {
    /// Starts this very binary as `run` with `flags`, and tells it how many were before it. Its process
    /// group is its own: by that its heir is known.
    pub(super) fn start(flags: &[OsString], restarts: u64) -> io::Result<Self> {
        // Whatever has become of the file since: the worker is of the supervisor's release.
        let child = Command::new("/proc/self/exe")
            .arg0("caios-agent")
            .arg("run")
            .args(flags)
            .env(RESTARTS_VARIABLE, restarts.to_string())
            .process_group(0)
            .spawn()?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        id.map(Self)
            .ok_or_else(|| io::Error::other("the worker has no process id"))
    }

    /// Whether a process is left of a worker that has been reaped.
    pub(super) fn has_heir(&self) -> io::Result<bool> {
        loop {
            match waitpgid(self.0, WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return Ok(true),
                Err(Errno::CHILD) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Passes a signal on. One that has ended meanwhile needs none.
    pub(super) fn signal(&self, signal: Signal) {
        // It is not reaped, so its id is still its own.
        let _ = kill_process(self.0, signal);
    }
}

/// Reaps all children that have ended: how `worker` ended, if it is among them.
pub(super) fn reap(worker: Option<&Worker>) -> io::Result<Option<End>> {
    let mut end = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((id, status))) => {
                if worker.is_some_and(|worker| worker.0 == id) {
                    end = Some(end_of(status));
                }
            }
            Ok(None) | Err(Errno::CHILD) => return Ok(end),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn end_of(status: WaitStatus) -> End {
    let number = |number: Option<i32>| number.and_then(|number| u8::try_from(number).ok());
    match (
        number(status.exit_status()),
        number(status.terminating_signal()),
    ) {
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Killed(signal),
        (None, None) => End::Exited(1),
    }
}
