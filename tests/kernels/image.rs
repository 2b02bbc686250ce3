//! What the virtual machine is made of: a kernel, and a file system with our binaries and nothing else.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tests::{binaries, guest, tools};

use crate::archive::Archive;
use crate::programs;

/// A kernel as `tests/tools/groups/kernels.sh` installs it.
pub(crate) struct Kernel {
    /// What `-kernel` of qemu takes.
    pub(crate) image: PathBuf,
    driver: PathBuf,
    release: String,
}

impl Kernel {
    /// The newest of a series.
    pub(crate) fn of(series: &str) -> anyhow::Result<Self> {
        let given = env::var_os("KERNELS_DIR").map(PathBuf::from);
        let kernels = given.map_or_else(|| tools::installed("kernels"), Ok)?;
        let directory = kernels.join(series);
        let release = std::fs::read_to_string(directory.join("release"))
            .with_context(|| format!("no kernel in {}", directory.display()))?;
        Ok(Self {
            image: directory.join("vmlinuz"),
            driver: directory.join("veth.ko"),
            release: release.trim().to_owned(),
        })
    }

    /// Writes the first file system for this kernel.
    pub(crate) fn pack(&self, path: &Path) -> anyhow::Result<()> {
        let tests = programs::built()?;
        let mut archive = Archive::create(path)?;
        for directory in ["/dev", "/etc", "/proc", "/tmp"] {
            archive.directory(directory)?;
        }
        // What the kernel gives the first process as its input and output.
        archive.device("/dev/console", (5, 1))?;
        // Pods have one of their own mounted there.
        archive.file("/etc/hosts", b"")?;
        let copies = [
            (&tests.guest, guest::INIT),
            (&tests.agent, guest::AGENT_TESTS),
            (&binaries::agent(), guest::AGENT),
            (&binaries::enroll(), guest::ENROLL),
            (&binaries::keeper(), guest::KEEPER),
            (&self.driver, &guest::driver(&self.release)),
        ];
        for (from, to) in copies {
            archive.copy(from, to)?;
        }
        archive
            .finish()
            .with_context(|| format!("failed to write {}", path.display()))
    }
}
