//! Which core a process runs on: servers have one for themselves, and the client the others.

use std::fs;

use anyhow::Context as _;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Moves every thread of `process` to the server's core. What it starts later goes there too.
///
/// # Errors
/// When the process has ended, or may not be moved.
pub fn serve_from(process: u32) -> anyhow::Result<()> {
    let (server, _) = split()?;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let id: i32 = thread?.file_name().to_string_lossy().parse()?;
        sched_setaffinity(Pid::from_raw(id), &server)
            .with_context(|| format!("failed to move thread {id} to a core of its own"))?;
    }
    Ok(())
}

/// Moves the calling thread, and what it starts from now on, to the client's cores.
///
/// # Errors
/// When there is one core alone.
pub fn ask_from_here() -> anyhow::Result<()> {
    let (_, clients) = split()?;
    sched_setaffinity(None, &clients).context("failed to leave the server's core")
}

/// The first core that the first process may use, and all others.
fn split() -> anyhow::Result<(CpuSet, CpuSet)> {
    let all = sched_getaffinity(Pid::from_raw(1)).or_else(|_| sched_getaffinity(None))?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core));
    let (mut server, mut clients) = (CpuSet::new(), CpuSet::new());
    server.set(cores.next().context("there is no core")?);
    cores.for_each(|core| clients.set(core));
    anyhow::ensure!(
        clients.count() > 0,
        "client and server need a core each; this machine has one alone"
    );
    Ok((server, clients))
}
