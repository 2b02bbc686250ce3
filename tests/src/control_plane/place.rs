//! Where one control plane has its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

use crate::tools;

/// Makes a directory of this process under `target/<kind>`, where its logs can be read after the
/// tests have ended. The next process removes it.
pub(crate) fn make(kind: &str) -> anyhow::Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let all = tools::target().join(kind);
    fs::create_dir_all(&all).with_context(|| format!("failed to make {}", all.display()))?;
    for left in fs::read_dir(&all)?.flatten() {
        let path = left.path();
        if !lives(&path) {
            let _ = fs::remove_dir_all(path);
        }
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = all.join(format!("{}-{number}", process::id()));
    fs::create_dir(&directory)?;
    Ok(directory)
}

/// Whether the process that made the directory lives.
fn lives(directory: &Path) -> bool {
    let name = directory
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let process = name.split('-').next().unwrap_or_default();
    Path::new("/proc").join(process).exists()
}
