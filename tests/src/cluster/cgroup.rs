//! The cgroup of a cluster's Pods. Two kubelets, or one and the remains of another, would end each
//! other's Pods in a common one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::wait;

/// Names end with the process that made them.
const PREFIX: &str = "caios-node-";

/// A cgroup of the same name in every hierarchy.
pub(super) struct Cgroup {
    name: String,
}

impl Cgroup {
    /// Makes it, named after this process.
    pub(super) fn make() -> anyhow::Result<Self> {
        let made = Self { name: own_name() };
        let hierarchies = hierarchies()?;
        ensure!(
            !hierarchies.is_empty(),
            "no cgroups are mounted under /sys/fs/cgroup"
        );
        for hierarchy in hierarchies {
            let directory = hierarchy.join(&made.name);
            fs::create_dir(&directory)
                .with_context(|| format!("failed to make the cgroup {}", directory.display()))?;
            // A new cpuset of version 1 is empty, and nothing can run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(all) = fs::read_to_string(hierarchy.join(file)) {
                    fs::write(directory.join(file), all.trim())?;
                }
            }
            // Version 2 gives a cgroup what its parent lets it have.
            let control = hierarchy.join("cgroup.subtree_control");
            if control.exists() {
                let all = fs::read_to_string(hierarchy.join("cgroup.controllers"))?;
                for parent in [control, directory.join("cgroup.subtree_control")] {
                    for controller in all.split_whitespace() {
                        let _ = fs::write(&parent, format!("+{controller}"));
                    }
                }
            }
        }
        Ok(made)
    }

    /// What it is called, below the root of each hierarchy.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Removes it with all that is in it; its processes have ended.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        let mut left = Vec::new();
        let waited = wait::until(
            "no process is in the cgroups",
            Duration::from_secs(10),
            || {
                left = all(&self.name);
                for cgroup in &left {
                    remove(cgroup);
                }
                left.retain(|cgroup| cgroup.exists());
                left.is_empty()
            },
        );
        waited.with_context(|| format!("cgroups that are left: {left:?}"))
    }
}

/// Removes what processes have left that were killed.
pub(super) fn remove_left() {
    let entries = all_hierarchies().flat_map(fs::read_dir);
    for cgroup in entries.flatten().flatten() {
        let name = cgroup.file_name().to_string_lossy().into_owned();
        let dead = name
            .strip_prefix(PREFIX)
            .is_some_and(|process| !Path::new("/proc").join(process).exists());
        if dead {
            remove(&cgroup.path());
        }
    }
}

/// Removes what is in the cgroups of this name, and not themselves; its processes have ended.
pub(super) fn empty(name: &str) -> anyhow::Result<()> {
    let inner = || {
        let entries = all(name).into_iter().flat_map(fs::read_dir).flatten();
        let inner = entries.flatten().map(|entry| entry.path());
        inner.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut left = Vec::new();
    let waited = wait::until("the cgroups are empty", Duration::from_secs(10), || {
        for cgroup in inner() {
            remove(&cgroup);
        }
        left = inner();
        left.is_empty()
    });
    waited.with_context(|| format!("cgroups that are left: {left:?}"))
}

/// What the cgroup of this process is called.
pub(super) fn own_name() -> String {
    format!("{PREFIX}{}", std::process::id())
}

/// All cgroups of this name.
pub(super) fn all(name: &str) -> Vec<PathBuf> {
    all_hierarchies()
        .map(|hierarchy| hierarchy.join(name))
        .filter(|cgroup| cgroup.exists())
        .collect()
}

fn remove(cgroup: &Path) {
    for child in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&child.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

/// Where a node has its cgroups: the hierarchies of version 1 if there are any, otherwise the one of
/// version 2.
fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    let first = mounted("cgroup")?;
    Ok(if first.is_empty() {
        mounted("cgroup2")?
    } else {
        first
    })
}

/// All of them: a runtime makes cgroups beside version 1 in a hierarchy of version 2 without a
/// controller.
fn all_hierarchies() -> impl Iterator<Item = PathBuf> {
    let kinds = ["cgroup", "cgroup2"].into_iter();
    kinds.flat_map(|kind| mounted(kind).unwrap_or_default())
}

/// Where file systems of a kind are mounted.
pub(super) fn mounted(wanted: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounts = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    Ok(mounts
        .filter_map(|mount| match mount.as_slice() {
            [_, at, kind, ..] if *kind == wanted => Some(PathBuf::from(at)),
            _ => None,
        })
        .collect())
}
