//! What a distribution does to a machine before anything of ours runs, as far as it is needed.

use std::fs::{self, File};

use anyhow::{Context as _, bail};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use rustix::process::{Resource, Rlimit, setrlimit};
use tests::{guest, link};

/// Descriptors of one process, as container runtimes allow them.
const DESCRIPTORS: u64 = 65_536;

const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// Mounts what the harness uses, loads the driver of Pods' interfaces and sets loopback up.
pub(crate) fn prepare() -> anyhow::Result<()> {
    for (kind, place) in [("proc", "/proc"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")] {
        let none: Option<&str> = None;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), none)
            .with_context(|| format!("failed to mount {place}"))?;
    }
    let limit = Some(DESCRIPTORS);
    let limits = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(Resource::Nofile, limits).context("failed to raise the descriptor limit")?;
    load_driver()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(link::up("lo"))
}

fn load_driver() -> anyhow::Result<()> {
    let release = fs::read_to_string(RELEASE)?;
    let driver = guest::driver(release.trim());
    let load = || -> anyhow::Result<()> {
        finit_module(&File::open(&driver)?, c"", ModuleInitFlags::empty())?;
        Ok(())
    };
    load().with_context(|| format!("failed to load {driver}"))
}

/// The kernel's series, such as (5, 10).
pub(crate) fn release() -> anyhow::Result<(u32, u32)> {
    let release = fs::read_to_string(RELEASE)?;
    let mut numbers = release.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("no release: {release}"),
    }
}

/// What the kernel calls itself.
pub(crate) fn kernel() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/version")?.trim().to_owned())
}

/// Ends the machine: qemu, told not to reboot, ends instead.
pub(crate) fn end() -> ! {
    let error = reboot(RebootMode::RB_AUTOBOOT).unwrap_err();
    // The end of the first process is a panic of the kernel, which ends the machine too.
    #[expect(clippy::panic, reason = "there is nobody to return to")]
    {
        panic!("failed to end the machine: {error}")
    }
}
