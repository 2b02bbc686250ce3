//! What the parts of a node would change of the machine, covered for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount};

use super::{Place, repository};

/// Directories that a node writes to.
const WRITTEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];
/// Settings of the kernel, below `/proc/sys`, and what the kubelet sets them to. None of them is of a
/// namespace.
const SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// Below `/proc/sys`: by this the kubelet tells one boot of its machine from the next.
const BOOT: &str = "kernel/random/boot_id";

/// Covers the directories by memory, and the settings by files that say what the kubelet wants.
pub(super) fn prepare(place: &Place) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    let repository = repository();
    for directory in WRITTEN {
        ensure!(
            !repository.starts_with(directory),
            "the repository is in {directory}, which the node covers: move it elsewhere"
        );
        let mode = Some("mode=755");
        mount(
            Some("tmpfs"),
            directory,
            Some("tmpfs"),
            MsFlags::empty(),
            mode,
        )
        .with_context(|| format!("failed to cover {directory}"))?;
    }
    let settings = place.directory.join("settings");
    fs::create_dir(&settings)?;
    new_boot(place)?;
    for (name, value) in SETTINGS {
        fs::write(cover(place, name), format!("{value}\n"))?;
    }
    for name in SETTINGS.iter().map(|(name, _)| *name).chain([BOOT]) {
        let (file, setting) = (cover(place, name), Path::new("/proc/sys").join(name));
        mount(Some(&file), &setting, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("failed to cover {}", setting.display()))?;
    }
    Ok(())
}

/// What covers a setting.
fn cover(place: &Place, setting: &str) -> PathBuf {
    let name = setting.replace('/', ".");
    place.directory.join("settings").join(name)
}

/// Has the node be in another boot than before.
pub(super) fn new_boot(place: &Place) -> anyhow::Result<()> {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    fs::write(cover(place, BOOT), id).context("failed to write the id of the boot")
}

/// Which boot the node is in.
pub(super) fn boot(place: &Place) -> anyhow::Result<String> {
    Ok(fs::read_to_string(cover(place, BOOT))?.trim().to_owned())
}

/// The settings as they are.
pub(super) fn settings() -> BTreeMap<&'static str, String> {
    let read = |name| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
    SETTINGS
        .iter()
        .map(|(name, _)| (*name, read(name).trim().to_owned()))
        .collect()
}
