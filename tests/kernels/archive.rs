//! A cpio archive in the `newc` format, which the kernel unpacks as its first file system
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Kinds of file, as `st_mode` has them.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that is being written. Everything in it belongs to root.
pub(crate) struct Archive {
    file: BufWriter<File>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Begins the archive in `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(File::create(path)?),
            entries: 0,
            directories: BTreeSet::new(),
        })
    }

    /// Adds a directory, and those above it.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        let relative = path.trim_start_matches('/');
        if relative.is_empty() || !self.directories.insert(relative.to_owned()) {
            return Ok(());
        }
        self.parents(relative)?;
        self.entry(relative, DIRECTORY | 0o755, (0, 0), b"")
    }

    /// Adds a copy of `from`, which everybody may execute.
    pub(crate) fn copy(&mut self, from: &Path, path: &str) -> io::Result<()> {
        let content = fs::read(from).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", from.display()))
        })?;
        self.file(path, &content)
    }

    /// Adds a file with this content, which everybody may execute.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let relative = path.trim_start_matches('/');
        self.parents(relative)?;
        self.entry(relative, REGULAR | 0o755, (0, 0), content)
    }

    /// Adds a character device by its numbers.
    pub(crate) fn device(&mut self, path: &str, numbers: (u32, u32)) -> io::Result<()> {
        let relative = path.trim_start_matches('/');
        self.parents(relative)?;
        self.entry(relative, CHARACTER_DEVICE | 0o600, numbers, b"")
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), b"")?;
        self.file.flush()
    }

    fn parents(&mut self, relative: &str) -> io::Result<()> {
        match relative.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        self.entries += 1;
        let size = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
        let (length, name_length) = (size(content.len())?, size(name.len() + 1)?);
        let links = 1;
        // Inode, mode, uid, gid, links, mtime, size, device of the file system, device, name, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            length,
            0,
            0,
            device.0,
            device.1,
            name_length,
            0,
        ];
        let mut head = b"070701".to_vec();
        for field in fields {
            write!(head, "{field:08x}")?;
        }
        head.extend_from_slice(name.as_bytes());
        head.push(0);
        self.aligned(&head)?;
        self.aligned(content)
    }

    /// Writes bytes and fills up to a multiple of four.
    fn aligned(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        let missing = bytes.len().wrapping_neg() % 4;
        self.file.write_all(&vec![0; missing])
    }
}
