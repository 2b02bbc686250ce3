//! Logs of agents that are gone: the kubelet keeps those of one container that has ended, and of no
//! Pod that was deleted.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Cluster;
use crate::chart::NAMESPACE;

/// Where the kubelet has the logs of Pods, and the further names that they get here. Both are in one
/// file system.
const LOGS: &str = "/var/log/pods";
const KEPT: &str = "/var/log/kept";

impl Cluster {
    /// Keeps the logs of all containers of the release that are there now, with what is written to
    /// them from now on, for [`write_report`](Self::write_report). To be called before one is ended.
    /// A log that cannot be kept is not missed.
    pub fn keep_logs(&self) {
        for log in logs(Path::new(LOGS)) {
            let inside = log.strip_prefix(LOGS).unwrap_or(&log);
            let name = Path::new(KEPT).join(inside);
            if inside.to_string_lossy().starts_with(NAMESPACE) && !name.exists() {
                let _ = name.parent().map(fs::create_dir_all);
                let _ = fs::hard_link(&log, &name);
            }
        }
    }

    /// Copies what was kept to the cluster's own directory, which outlasts it.
    pub(super) fn copy_logs(&self) -> io::Result<()> {
        self.keep_logs();
        for log in logs(Path::new(KEPT)) {
            let inside = log.strip_prefix(KEPT).unwrap_or(&log);
            let copy = self.place.directory.join("agents").join(inside);
            copy.parent().map(fs::create_dir_all).transpose()?;
            fs::copy(&log, &copy)?;
        }
        Ok(())
    }
}

/// All files in a directory of Pods and their containers.
fn logs(directory: &Path) -> Vec<PathBuf> {
    let entries = |directory: PathBuf| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    };
    let containers = entries(directory.to_owned()).flat_map(entries);
    containers.flat_map(entries).collect()
}
