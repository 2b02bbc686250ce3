//! What a process takes, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// Resident memory in bytes.
///
/// # Errors
/// When the process has ended.
pub fn resident(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.context("the kernel shows no VmRSS")?.trim();
    let kibibytes: f64 = kibibytes.trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024.0)
}

/// The time that all threads of the process have run, to the nanosecond.
///
/// # Errors
/// When the process has ended.
pub fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let mut sum = 0_u64;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let place = thread?.path().join("schedstat");
        let text = fs::read_to_string(&place)
            .with_context(|| format!("failed to read {}", place.display()))?;
        let ran = text.split(' ').next().unwrap_or_default();
        sum = sum.saturating_add(ran.parse()?);
    }
    Ok(Duration::from_nanos(sum))
}
