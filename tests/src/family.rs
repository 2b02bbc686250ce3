//! Processes and their children.

use std::fs;
use std::time::Duration;

use nix::unistd::Pid;

use crate::wait;

/// How long a process may take to end after its parent.
const END: Duration = Duration::from_secs(10);

/// The children of a process that its first thread has started, in the order of their start.
pub fn children(of: Pid) -> Vec<Pid> {
    let listed = fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
    let listed = listed.unwrap_or_default();
    let ids = listed.split_ascii_whitespace().map(str::parse);
    ids.filter_map(Result::ok).map(Pid::from_raw).collect()
}

/// Whether a process is the heir of a worker, whose command line it has.
pub fn is_heir(process: Pid) -> bool {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim_end() == agent::heir::NAME
}

/// Whether a process has ended, be it reaped or not.
pub fn has_ended(process: Pid) -> bool {
    states(process).iter().all(|state| state == "Z")
}

/// Whether no thread of a process goes on until it is told to.
pub fn is_stopped(process: Pid) -> bool {
    let states = states(process);
    !states.is_empty() && states.iter().all(|state| state == "T")
}

/// Waits until all of these have ended.
///
/// # Errors
/// When one has not in time.
pub fn all_ended(processes: &[Pid]) -> anyhow::Result<()> {
    let what = format!("{processes:?} have ended");
    wait::until(&what, END, || processes.iter().copied().all(has_ended))
}

/// The state of each thread, by its letter.
fn states(of: Pid) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{of}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let status = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let state = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("State:"));
        Some(line?.split_whitespace().next()?.to_owned())
    };
    status.filter_map(state).collect()
}
