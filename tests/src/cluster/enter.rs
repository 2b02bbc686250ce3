//! The way into the namespaces of a cluster, and out of them again without a trace.
//!
//! The program starts itself anew, twice: as the first process of namespaces of its own, and as its
//! only child, which does the work. The kernel ends all processes of a PID namespace with its first
//! one, and with the last of them go their mounts and interfaces. What would be left are cgroups.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use anyhow::{Context as _, bail, ensure};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, Uid};
use tokio::signal::unix::{SignalKind, signal};

use super::cgroup::Cgroup;
use super::traces::Traces;
use super::{cgroup, repository};
use crate::control_plane::place;
use crate::tools;

/// Which of its three lives the program is in.
const LIFE: &str = "CAIOS_NODE";
const FIRST_PROCESS: &str = "first-process";
const INSIDE: &str = "inside";
const DIRECTORY: &str = "CAIOS_NODE_DIRECTORY";
const CGROUP: &str = "CAIOS_NODE_CGROUP";

/// Where a cluster has what it needs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its files and logs: readable after it has ended, until the next one is made.
    pub directory: PathBuf,
    /// The cgroup that all its Pods are in, as the kubelet is told.
    pub cgroup: String,
}

/// What [`enter()`] found.
#[derive(Debug)]
pub enum Entered {
    /// The program runs inside and is to do its work.
    Inside(Place),
    /// It has run inside, and has ended so.
    Ended(ExitCode),
}

/// Starts the program anew, with the same arguments, in namespaces of its own, and waits until it has
/// ended there.
///
/// # Errors
/// When the user is not root, a tool is missing, an image cannot be built, or something was left
/// behind: processes, mounts, interfaces, cgroups, changed settings of the kernel.
pub fn enter() -> anyhow::Result<Entered> {
    match std::env::var(LIFE).as_deref() {
        Ok(INSIDE) => Ok(Entered::Inside(Place {
            directory: std::env::var_os(DIRECTORY).context("no directory")?.into(),
            cgroup: std::env::var(CGROUP).context("no cgroup")?,
        })),
        Ok(FIRST_PROCESS) => be_first().map(Entered::Ended),
        _ => from_outside().map(Entered::Ended),
    }
}

fn from_outside() -> anyhow::Result<ExitCode> {
    ensure!(
        Uid::effective().is_root() && std::env::var_os("CAIOS_IN_USERNS").is_none(),
        "a kubelet and a container runtime need root, and not that of a user namespace: run as root"
    );
    for (group, program) in [
        ("etcd", "etcd"),
        ("kubernetes", "kubelet"),
        ("helm", "kubectl"),
        ("runtime", "containerd"),
    ] {
        tools::program(group, program)?;
    }
    build_image()?;
    let directory = place::make("nodes")?;
    cgroup::remove_left();
    let before = Traces::seen(&directory)?;
    let cgroup = Cgroup::make()?;
    let result = run_inside(&directory, cgroup.name());
    let removed = cgroup.remove();
    let after = Traces::seen(&directory)?;
    let code = result?;
    removed?;
    after.ensure_none_since(&before)?;
    Ok(code)
}

/// Builds the image from the program as it is, in the profile of the tests unless `IMAGE_PROFILE` names one;
/// `IMAGE_BUILT=1` says that it is there.
fn build_image() -> anyhow::Result<()> {
    if std::env::var_os("IMAGE_BUILT").is_some() {
        return Ok(());
    }
    let mut build = Command::new(repository().join("tests/images.sh"));
    if std::env::var_os("IMAGE_PROFILE").is_none() {
        build.env(
            "IMAGE_PROFILE",
            if cfg!(debug_assertions) {
                "dev"
            } else {
                "release"
            },
        );
    }
    let output = build.output().context("failed to start tests/images.sh")?;
    ensure!(
        output.status.success(),
        "tests/images.sh: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn run_inside(directory: &Path, cgroup: &str) -> anyhow::Result<ExitCode> {
    // Killed with this process, and everything inside with them.
    let mut unshare = Command::new("setpriv");
    unshare.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--net"]);
    unshare.args(["--ipc", "--uts", "--pid", "--fork", "--kill-child"]);
    unshare.args(["--mount-proc", "--propagation", "private", "--"]);
    unshare
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1));
    unshare.env(LIFE, FIRST_PROCESS);
    unshare.env(DIRECTORY, directory).env(CGROUP, cgroup);
    let child = unshare
        .spawn()
        .context("failed to start setpriv and unshare of util-linux")?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(ended(child))
}

/// Waits for the child. An interrupt is the child's: this process stays to clear up.
async fn ended(mut child: Child) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ended = signal(SignalKind::child())?;
    loop {
        if let Some(status) = child.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => child.kill()?,
            _ = ended.recv() => {}
        }
    }
}

/// Is the first process: starts the next and buries whatever ends, until that one has.
fn be_first() -> anyhow::Result<ExitCode> {
    let child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(LIFE, INSIDE)
        .spawn()
        .context("failed to start the program anew")?;
    let worker = Pid::from_raw(i32::try_from(child.id())?);
    loop {
        match wait() {
            Ok(WaitStatus::Exited(ended, code)) if ended == worker => {
                return Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from));
            }
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == worker => {
                bail!("the program was ended by {signal}")
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("failed to wait for the program"),
        }
    }
}
