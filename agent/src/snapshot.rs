//! The agent's memory, as its keeper holds it for the next agent: one file of sealed memory, never
//! on disk, never read by the keeper.
//!
//! It has credentials and tokens in the clear. Whoever can read it can read the agent's memory too:
//! it is reached through a descriptor that only the agent, its keeper and their successors have.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use jiff::Timestamp;
use keeper::{MAX_SNAPSHOT_BYTES, check_snapshot};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cache::Saved;
use crate::identity::SavedKeys;

/// The form of a snapshot. A reader leaves one of another form alone.
const VERSION: u8 = 1;

/// What a snapshot holds, as it is read.
#[derive(Deserialize)]
pub struct Snapshot<'a> {
    /// The cache.
    #[serde(borrow)]
    pub cache: Saved<'a>,
    /// The issuer's public keys, so that tokens can be verified while the API server is away.
    pub keys: Option<SavedKeys>,
    /// How far time had come.
    #[serde(default)]
    pub furthest: Option<Timestamp>,
}

#[derive(Serialize)]
struct Written<'a> {
    v: u8,
    cache: &'a Saved<'a>,
    keys: Option<SavedKeys>,
    furthest: Timestamp,
}

#[derive(Deserialize)]
struct Version {
    v: u8,
}

/// Writes a snapshot into new memory and seals that.
///
/// # Errors
/// When the kernel has no memory, or the snapshot is larger than a keeper takes.
pub fn write(
    cache: &Saved<'_>,
    keys: Option<SavedKeys>,
    furthest: Timestamp,
) -> io::Result<OwnedFd> {
    let snapshot = Written {
        v: VERSION,
        cache,
        keys,
        furthest,
    };
    // Measured first: a buffer that grows would leave unwiped copies behind.
    let mut length = Length(0);
    serde_json::to_writer(&mut length, &snapshot)?;
    if length.0 as u64 > MAX_SNAPSHOT_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, &snapshot)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut memory = File::from(memfd_create("caios-snapshot", flags)?);
    memory.write_all(&bytes)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memory, seals)?;
    Ok(memory.into())
}

/// Reads a snapshot and has `take` take it.
///
/// # Errors
/// When it is no sealed memory, or not a snapshot of this form.
pub fn read(memory: OwnedFd, take: impl FnOnce(Snapshot<'_>)) -> io::Result<()> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    check_snapshot(&memory).map_err(|unfit| invalid(unfit.to_string()))?;
    let memory = File::from(memory);
    let length = usize::try_from(memory.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(vec![0; length]);
    // The offset is shared with everybody who holds this memory, so it is not used.
    memory.read_exact_at(&mut bytes, 0)?;
    // An error of the parser names a line and a column, and no content.
    let Version { v } = serde_json::from_slice(&bytes)?;
    if v != VERSION {
        return Err(invalid(format!("it is of form {v}, and {VERSION} is read")));
    }
    take(serde_json::from_slice(&bytes)?);
    Ok(())
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
