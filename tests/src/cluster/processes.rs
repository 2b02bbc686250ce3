//! The processes of Pods, as the node sees them.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::memory::Memory;
use crate::family::is_heir;

/// A process in a Pod's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// All processes there are.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| Some(Self(entry.file_name().to_str()?.parse().ok()?)))
    }

    /// All processes of a Pod, the sandbox's among them.
    pub fn of_pod(uid: &str) -> Vec<Self> {
        let group = format!("/pod{uid}/");
        Self::all()
            .filter(|process| process.is_below(&group))
            .collect()
    }

    /// Whether the path of one of its cgroups has this in it.
    pub(super) fn is_below(self, group: &str) -> bool {
        self.read("cgroup").contains(group)
    }

    /// The file name of the program that it runs; empty once it has ended.
    pub(super) fn program(self) -> String {
        let program = fs::read_link(self.path("exe")).unwrap_or_default();
        let name = program.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The process of a Pod whose command line begins with `program`. The heir of an agent's worker, which
    /// has the command line of the worker, is another matter.
    ///
    /// # Errors
    /// When there is none.
    pub fn of_program(uid: &str, program: &str) -> anyhow::Result<Self> {
        let mut all = Self::of_pod(uid).into_iter();
        let found = all.find(|it| it.command().starts_with(program) && !it.is_heir());
        found.with_context(|| format!("no process `{program}` in the Pod {uid}"))
    }

    /// The heir of the worker in an agent's Pod.
    ///
    /// # Errors
    /// When there is none.
    pub fn heir(uid: &str) -> anyhow::Result<Self> {
        let mut all = Self::of_pod(uid).into_iter();
        let found = all.find(|process| process.is_heir());
        found.with_context(|| format!("no heir in the Pod {uid}"))
    }

    fn is_heir(self) -> bool {
        self.id().is_ok_and(is_heir)
    }

    fn id(self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.0)?))
    }

    /// This process, which is on the node itself.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Its command line, with spaces between the arguments.
    pub fn command(self) -> String {
        self.read("cmdline").replace('\0', " ")
    }

    /// A line of `/proc/<id>/status` by its name, such as `CapEff`; empty when there is none.
    pub fn status(self, name: &str) -> String {
        let status = self.read("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Which namespace of a kind, such as `net`, it is in.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn namespace(self, kind: &str) -> anyhow::Result<PathBuf> {
        Ok(fs::read_link(self.path(&format!("ns/{kind}")))?)
    }

    /// Its mounts: place and options.
    pub fn mounts(self) -> Vec<(String, String)> {
        let mounts = self.read("mounts");
        let mounts = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        mounts
            .filter_map(|mount| match mount.as_slice() {
                [_, at, _, options, ..] => Some(((*at).to_owned(), (*options).to_owned())),
                _ => None,
            })
            .collect()
    }

    /// How many descriptors it has.
    pub fn descriptors(self) -> usize {
        fs::read_dir(self.path("fd")).map_or(0, Iterator::count)
    }

    /// The memory of the container that it is in.
    ///
    /// # Errors
    /// When it has ended, or its memory is not counted.
    pub fn memory(self) -> anyhow::Result<Memory> {
        Memory::of(self)
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn kill(self) -> anyhow::Result<()> {
        let id = self.id()?;
        kill(id, Signal::SIGKILL).with_context(|| format!("failed to kill process {id}"))
    }

    pub(super) fn path(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    pub(super) fn read(self, name: &str) -> String {
        let content = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&content).into_owned()
    }
}
