//! What a process holds, before and after.

use tests::cluster::Process;

/// Resident memory that may be more after many Pods than before, in kB.
const MEMORY_KEPT: usize = 2 * 1024;

/// What a process holds.
#[derive(Debug)]
pub(crate) struct Held {
    descriptors: usize,
    threads: usize,
    /// Resident, in kB.
    memory: usize,
}

impl Held {
    pub(crate) fn by(process: Process) -> Self {
        let number = |text: String| {
            let digits = text.split(' ').next().unwrap_or_default();
            digits.parse().unwrap_or_default()
        };
        Self {
            descriptors: process.descriptors(),
            threads: number(process.status("Threads")),
            memory: number(process.status("VmRSS")),
        }
    }

    /// Whether it is no more than `before`, but for memory that an allocator keeps.
    pub(crate) fn is_back_at(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors
            && self.threads <= before.threads
            && self.memory <= before.memory + MEMORY_KEPT
    }
}
