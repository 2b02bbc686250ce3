//! What the process asks of the kernel before it holds a secret.

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Keeps the process's memory to itself: no core dump, and no other process of the same user may
/// trace it or read it through `/proc`.
///
/// # Errors
/// When the kernel refuses. The agent then must not start.
pub fn keep_memory_private() -> Result<(), Errno> {
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Raises the soft limit of open descriptors to the hard one, and returns it; `None` is unlimited.
///
/// Container runtimes leave the soft limit at 1,024, and Rust, unlike Go, does not raise it by
/// itself. Every Pod takes one or two descriptors and every connection one.
///
/// # Errors
/// When the kernel refuses, with the limit unchanged.
pub fn raise_descriptor_limit() -> Result<Option<u64>, Errno> {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: hard,
            maximum: hard,
        },
    )?;
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_descriptor_limit_becomes_the_hard_one() {
        let hard = raise_descriptor_limit().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }
}
