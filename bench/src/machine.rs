//! What the figures were taken on.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// A machine at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// How many cores the bench may use.
    pub cores: usize,
    /// What the processor calls itself.
    pub processor: String,
    /// The kernel's release.
    pub kernel: String,
    /// The commit that was built, `-dirty` when there is more.
    pub commit: String,
    /// How many processes wanted a core in the minute before.
    pub load: String,
}

impl Machine {
    /// This one, now. What cannot be read is `unknown`.
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split(": ").nth(1));
        let load = read("/proc/loadavg");
        let mut git = Command::new("git");
        git.args(["describe", "--always", "--dirty"]);
        let commit = git.current_dir(env!("CARGO_MANIFEST_DIR")).output();
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: known(model.unwrap_or_default()),
            kernel: known(&read("/proc/sys/kernel/osrelease")),
            commit: known(&commit.unwrap_or_default()),
            load: known(load.split(' ').next().unwrap_or_default()),
        }
    }
}

fn known(text: &str) -> String {
    match text.trim() {
        "" => "unknown".to_owned(),
        text => text.to_owned(),
    }
}
