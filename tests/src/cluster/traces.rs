//! What a cluster might leave behind on the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::ensure;

use super::{cgroup, machine};

/// What is there of all that a cluster makes.
pub(super) struct Traces {
    interfaces: BTreeSet<String>,
    mounts: BTreeSet<String>,
    processes: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    settings: BTreeMap<&'static str, String>,
}

impl Traces {
    /// Looks at the machine; mounts count where they are of the cluster in `directory`, or where
    /// clusters have them.
    pub(super) fn seen(directory: &Path) -> anyhow::Result<Self> {
        let interfaces = fs::read_dir("/sys/class/net")?.flatten();
        let interfaces = interfaces.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let places = [
            "/run",
            "/var/lib",
            "/var/log",
            "/proc/sys",
            "/sys/fs/cgroup",
        ];
        let mounts = mounts.lines().filter(|mount| {
            let at = mount.split(' ').nth(1).unwrap_or_default();
            Path::new(at).starts_with(directory)
                || places.iter().any(|place| Path::new(at).starts_with(place))
        });
        let name = format!("/{}", cgroup::own_name());
        let processes = fs::read_dir("/proc")?.flatten().filter(|process| {
            let cgroups = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            let own = process.file_name().to_string_lossy() == std::process::id().to_string();
            !own && (cgroups.contains(&name) || command.contains(&directory.display().to_string()))
        });
        Ok(Self {
            interfaces: interfaces.collect(),
            mounts: mounts.map(str::to_owned).collect(),
            processes: processes
                .map(|process| process.path().display().to_string())
                .collect(),
            cgroups: cgroup::all(&cgroup::own_name())
                .iter()
                .map(|cgroup| cgroup.display().to_string())
                .collect(),
            settings: machine::settings(),
        })
    }

    /// Checks that nothing is there now that was not there `before`.
    pub(super) fn ensure_none_since(&self, before: &Self) -> anyhow::Result<()> {
        for (what, now, before) in [
            ("interfaces", &self.interfaces, &before.interfaces),
            ("mounts", &self.mounts, &before.mounts),
            ("processes", &self.processes, &before.processes),
            ("cgroups", &self.cgroups, &before.cgroups),
        ] {
            let left: Vec<_> = now.difference(before).collect();
            ensure!(
                left.is_empty(),
                "{what} that the cluster has left behind: {left:?}"
            );
        }
        let (now, before) = (&self.settings, &before.settings);
        ensure!(
            now == before,
            "the kernel's settings were {before:?}, and are {now:?}"
        );
        Ok(())
    }
}
