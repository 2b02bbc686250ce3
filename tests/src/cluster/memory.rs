//! The memory of a container, as its cgroup counts it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use super::{Process, cgroup};

/// The cgroup of a container that has a limit of memory.
pub struct Memory(PathBuf);

/// A process that takes memory. It has ended, or is about to be ended by the kernel.
pub struct Taker(Child);

impl Memory {
    /// That of a process.
    pub(super) fn of(process: Process) -> anyhow::Result<Self> {
        let groups = process.read("cgroup");
        let found = groups.lines().find_map(|line| {
            let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
            let has = controllers.split(',').any(|it| it == "memory");
            has.then_some(("cgroup", group))
                .or_else(|| controllers.is_empty().then_some(("cgroup2", group)))
        });
        let (kind, group) = found.with_context(|| format!("no cgroup in {groups:?}"))?;
        let hierarchies = cgroup::mounted(kind)?;
        let mut groups = hierarchies
            .into_iter()
            .map(|hierarchy| hierarchy.join(group.trim_start_matches('/')));
        let found = groups.find(|group| {
            ["memory.oom_control", "memory.events"]
                .iter()
                .any(|file| group.join(file).exists())
        });
        let found = found.with_context(|| format!("{group} counts no memory"))?;
        Ok(Self(found))
    }

    /// How many of its processes the kernel has ended because there was none left; `None` once the
    /// container has ended as a whole, and its count with it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn kills(&self) -> anyhow::Result<Option<u64>> {
        for file in ["memory.oom_control", "memory.events"] {
            let Ok(text) = fs::read_to_string(self.0.join(file)) else {
                continue;
            };
            let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            let count = count.with_context(|| format!("no count in {file}"))?;
            return Ok(Some(count.trim().parse()?));
        }
        Ok(None)
    }

    /// Starts a process in it that takes memory until there is none left. The kernel then ends
    /// `first` before others, as it would if that had taken it, and this process after it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_all(&self, first: Process) -> anyhow::Result<Taker> {
        fs::write(first.path("oom_score_adj"), "1000")?;
        let mut taker = Command::new("sh");
        // `tail` keeps the last line, and this one has no end.
        taker.args(["-ec", "echo $$ > \"$0\"; exec tail /dev/zero"]);
        taker.arg(self.0.join("cgroup.procs"));
        taker.stdin(Stdio::null()).stdout(Stdio::null());
        let child = taker.spawn().context("failed to start a shell")?;
        Ok(Taker(child))
    }
}

impl Taker {
    /// Ends it, if the kernel has not yet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
