//! A reboot of the node: what it had in memory is gone, and what was on its disk is as it was left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::mount::{MntFlags, umount2};

use super::{Cluster, NODE, Process, cgroup, kubelet, locked, machine, runtime};
use crate::{link, wait};

/// What containerd starts, and what that starts.
const PROGRAMS: [&str; 5] = [
    "containerd-shim-runc-v2",
    "runc",
    "bridge",
    "host-local",
    "loopback",
];
/// What the bridge of the Pods is called.
const BRIDGE: &str = "cni0";
/// How long the kernel may take to end processes and what was theirs.
const ENDED: Duration = Duration::from_secs(30);
/// Where a node keeps its files: the first in memory, the other on disk. What is mounted below
/// either is lost in a reboot.
const MEMORY: &str = "/run";
const DISK: &str = "/var/lib";

impl Cluster {
    /// Takes the power from the node: the kubelet, containerd and every process of every Pod are
    /// killed at once; mounts, network namespaces, the Pods' bridge, cgroups and all that is in `/run`
    /// are gone. The control plane is on another machine, as it were, and notices nothing.
    ///
    /// # Errors
    /// When something does not go.
    pub fn power_off(&self) -> anyhow::Result<()> {
        let (mut kubelet, mut containerd) = (locked(&self.kubelet), locked(&self.containerd));
        kubelet.kill()?;
        containerd.kill()?;
        drop((kubelet, containerd));
        let group = format!("/{}/", self.place.cgroup);
        let mut left = Vec::new();
        wait::until("no process of the node is left", ENDED, || {
            left = processes(&group);
            for process in &left {
                let _ = process.kill();
            }
            left.is_empty()
        })
        .with_context(|| format!("of {left:?}"))?;
        let network = self.control_plane.network();
        network.call(unmount_all)?;
        // The kernel ends the interfaces with the namespaces of the Pods, in its own time.
        wait::until("no interface of a Pod is left", ENDED, || {
            network.call(|| interfaces().is_ok_and(|all| !all.iter().any(|it| is_of_pod(it))))
        })?;
        if network.call(interfaces)?.iter().any(|it| it == BRIDGE) {
            network.run(link::delete(BRIDGE))?;
        }
        network.call(|| empty(Path::new(MEMORY)))?;
        cgroup::empty(&self.place.cgroup)?;
        machine::new_boot(&self.place)
    }

    /// Starts containerd and the kubelet on the node that [`power_off`](Self::power_off) has left, and
    /// waits until the API server knows that it has booted.
    ///
    /// # Errors
    /// When one does not start.
    pub fn power_on(&self) -> anyhow::Result<()> {
        let boot = machine::boot(&self.place)?;
        *locked(&self.containerd) = runtime::start(self.control_plane.network(), &self.place)?;
        *locked(&self.kubelet) = kubelet::start(&self.control_plane, &self.place)?;
        let path = format!("/api/v1/nodes/{NODE}");
        let mut told = String::new();
        let booted = wait::until("the node tells its new boot", kubelet::START, || {
            let node = self.control_plane.get(&path);
            told = node.map_or_else(
                |error| format!("{error:#}"),
                |node| node.string("/status/nodeInfo/bootID").to_owned(),
            );
            told == boot
        });
        booted.with_context(|| format!("{told}, not {boot}"))?;
        self.wait_until_ready()
    }

    /// What the kubelet has logged since a length of its log that [`kubelet_log_length`] has told.
    ///
    /// [`kubelet_log_length`]: Self::kubelet_log_length
    pub fn kubelet_log_since(&self, length: usize) -> String {
        let log = locked(&self.kubelet).log();
        log.get(length..).unwrap_or_default().to_owned()
    }

    /// How much the kubelet has logged so far, in bytes.
    pub fn kubelet_log_length(&self) -> usize {
        locked(&self.kubelet).log().len()
    }
}

/// The processes that are the node's: those in the Pods' cgroup, and what containerd starts outside
/// of it.
fn processes(group: &str) -> Vec<Process> {
    let of_node = Process::all().filter(|process| {
        let program = process.program();
        // One that has ended and was not waited for has no program any more, and nothing else.
        !program.is_empty() && (PROGRAMS.contains(&&*program) || process.is_below(group))
    });
    of_node.collect()
}

/// Unmounts what is below the node's directories, in the mount namespace of the calling thread.
fn unmount_all() -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts")?;
    let places = mounts.lines().filter_map(|mount| mount.split(' ').nth(1));
    let places: Vec<PathBuf> = places.map(PathBuf::from).collect();
    // What was mounted last hides what was there before.
    for place in places.iter().rev() {
        let is_below =
            |directory: &str| place.starts_with(directory) && place != Path::new(directory);
        if is_below(MEMORY) || is_below(DISK) {
            umount2(place, MntFlags::MNT_DETACH)
                .with_context(|| format!("failed to unmount {}", place.display()))?;
        }
    }
    Ok(())
}

/// The interfaces of the calling thread's network namespace.
fn interfaces() -> anyhow::Result<Vec<String>> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let names = table.lines().filter_map(|line| line.split_once(':'));
    Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
}

fn is_of_pod(interface: &str) -> bool {
    interface.starts_with("veth")
}

/// Removes all that is in a directory in memory.
fn empty(directory: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
        let removed = if entry?.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("failed to remove {}", path.display()))?;
    }
    ensure!(fs::read_dir(directory)?.next().is_none(), "not empty");
    Ok(())
}
