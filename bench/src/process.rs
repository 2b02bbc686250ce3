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

/// The time that all threads of the process have run, those that have ended too, to a hundredth of a
/// second: `/proc/<id>/stat` (proc(5)).
///
/// # Errors
/// When the process has ended.
pub fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program may have anything in it.
    let (_, after_name) = stat.rsplit_once(')').context("no name in the line")?;
    let fields = after_name.split_ascii_whitespace();
    // `utime` and `stime`, the fields 14 and 15 of the line.
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(
        ticks * 1000 / rustix::param::clock_ticks_per_second(),
    ))
}
