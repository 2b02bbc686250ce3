//! What a process takes, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// Memory in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// All that is resident.
    pub resident: f64,
    /// What of it is no page of a file: the kernel can drop those of the program, and shares them.
    pub anonymous: f64,
}

/// What a process takes now.
///
/// # Errors
/// When the process has ended.
pub fn memory(process: u32) -> anyhow::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let bytes = |field: &str| -> anyhow::Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let line = line.with_context(|| format!("the kernel shows no {field}"))?;
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024.0)
    };
    Ok(Memory {
        resident: bytes("VmRSS:")?,
        anonymous: bytes("RssAnon:")?,
    })
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
