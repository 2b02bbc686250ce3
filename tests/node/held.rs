//! What a process holds, before and after.

use std::fmt;

use tests::cluster::Process;

/// Memory that may be more after many Pods than before, in kB.
const MEMORY_KEPT: usize = 2 * 1024;

/// Threads that may be more: one that gives memory back every half a minute and ends 10 s later.
const THREADS_KEPT: usize = 1;

/// What a process holds.
#[derive(Debug)]
pub(crate) struct Held {
    descriptors: usize,
    threads: usize,
    /// In kB: all that is resident, and of that what is not the pages of its program.
    resident: usize,
    own: usize,
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
            resident: number(process.status("VmRSS")),
            own: number(process.status("RssAnon")),
        }
    }

    /// Whether it is no more than `before`, but for memory that an allocator keeps.
    pub(crate) fn is_back_at(&self, before: &Self) -> bool {
        self.is_open_as(before) && self.own <= before.own + MEMORY_KEPT
    }

    /// Whether descriptors and threads are no more than `before`, but for a thread that comes and goes.
    pub(crate) fn is_open_as(&self, before: &Self) -> bool {
        let threads = before.threads + THREADS_KEPT;
        self.descriptors <= before.descriptors && self.threads <= threads
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            descriptors,
            threads,
            resident,
            own,
        } = self;
        write!(
            f,
            "{resident} kB, {own} of its own; {descriptors} descriptors, {threads} threads"
        )
    }
}
