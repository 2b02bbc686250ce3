//! What a container runtime does to a process: a root of its own that is read-only, a user, groups,
//! and no capability.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context as _, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid,
};

use crate::namespace::Namespace;

/// The user and group of the agent's image.
pub const AGENT: u32 = shared::contract::AGENT_ID;

/// How to start a process as a container. Its root is empty but for `/proc`,
/// `/dev/null` and what is mounted.
#[derive(Clone, Debug)]
pub struct Container {
    root: PathBuf,
    user: u32,
    groups: Vec<u32>,
    mounts: Vec<Bind>,
}

#[derive(Clone, Debug)]
struct Bind {
    from: PathBuf,
    to: PathBuf,
    writable: bool,
}

impl Container {
    /// A container of the node whose own files are in `place`. Its processes run as `user`, in the
    /// group of the same number and in `groups`.
    pub fn new(place: &Path, user: u32, groups: &[u32]) -> Self {
        Self {
            root: place.join("root"),
            user,
            groups: groups.to_vec(),
            mounts: Vec::new(),
        }
    }

    /// Mounts a file or directory of the node, read-only.
    #[must_use]
    pub fn sees(self, from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        self.bind(from.into(), to.into(), false)
    }

    /// Mounts a directory of the node, as a hostPath volume.
    #[must_use]
    pub fn writes(self, from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        self.bind(from.into(), to.into(), true)
    }

    fn bind(mut self, from: PathBuf, to: PathBuf, writable: bool) -> Self {
        self.mounts.push(Bind { from, to, writable });
        self
    }

    /// Starts `command`, whose program is a path in the container, in the network namespace of
    /// `network`.
    ///
    /// # Errors
    /// When the process may not do this, or the program is missing.
    pub fn spawn(&self, network: &Namespace, mut command: Command) -> anyhow::Result<Child> {
        let container = self.clone();
        network.call(move || {
            // Root, user and capabilities belong to a thread, and a child is born with those of
            // the thread that makes it; this one ends with its only child.
            let born = std::thread::spawn(move || {
                container.enter()?;
                let program = command.get_program().to_owned();
                command.spawn().with_context(|| {
                    format!("failed to start {} in a container", program.display())
                })
            });
            match born.join() {
                Ok(born) => born,
                Err(_panicked) => bail!("the thread that makes a container panicked"),
            }
        })
    }

    fn enter(&self) -> anyhow::Result<()> {
        for id in std::iter::once(&self.user).chain(&self.groups) {
            ensure_mapped(*id)?;
        }
        let root = &self.root;
        fs::create_dir_all(root)?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
        let none: Option<&str> = None;
        mount(
            Some("root"),
            root,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=755"),
        )
        .context("failed to mount a root")?;
        for bind in self.mounts.iter().chain(&[own("/proc"), own("/dev/null")]) {
            bind.mount(root)?;
        }
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, root, none, read_only, none).context("failed to make the root read-only")?;
        chroot(root).context("failed to enter the root")?;
        chdir("/")?;
        self.drop_privileges()
            .context("failed to become the container's user")
    }

    fn drop_privileges(&self) -> rustix::io::Result<()> {
        for capability in CapabilitySet::all() {
            // The kernel knows fewer than there are bits.
            let _ = remove_capability_from_bounding_set(capability);
        }
        let groups: Vec<Gid> = self.groups.iter().map(|id| Gid::from_raw(*id)).collect();
        set_thread_groups(&groups)?;
        set_thread_gid(Gid::from_raw(self.user))?;
        set_thread_uid(Uid::from_raw(self.user))?;
        let none = CapabilitySet::empty();
        let sets = CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        };
        set_capabilities(None, sets)?;
        set_no_new_privs(true)
    }
}

/// What every container has, as the node has it.
fn own(path: &str) -> Bind {
    Bind {
        from: path.into(),
        to: path.into(),
        writable: true,
    }
}

impl Bind {
    fn mount(&self, root: &Path) -> anyhow::Result<()> {
        let relative = self.to.strip_prefix("/").unwrap_or(&self.to);
        let target = root.join(relative);
        if self.from.is_dir() {
            fs::create_dir_all(&target)?;
        } else {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&target, "")?;
        }
        let none: Option<&str> = None;
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(&self.from), &target, none, bind, none)
            .with_context(|| format!("failed to mount {}", self.from.display()))?;
        if self.writable {
            return Ok(());
        }
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &target, none, read_only, none)
            .with_context(|| format!("failed to make {} read-only", self.to.display()))
    }
}

/// In a user namespace only mapped users exist.
fn ensure_mapped(id: u32) -> anyhow::Result<()> {
    let map = fs::read_to_string("/proc/self/uid_map")?;
    let mapped = map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        (first..first + count).contains(&u64::from(id))
    });
    anyhow::ensure!(
        mapped,
        "this test runs a process as user {id}, which does not exist in this user namespace: run as \
         root, or with `unshare --map-root-user --map-auto` (Debian: `apt-get install uidmap`)"
    );
    Ok(())
}
