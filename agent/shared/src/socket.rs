//! Unix sockets at paths that others know: bound aside, then renamed into place.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// Makes a listening socket at `path` that does not block, with this mode.
///
/// It is renamed into place when it listens and its mode is set, so there is no moment in which
/// `path` has no socket or one that others may not open. Mounts of the *directory* see the new
/// socket; the directory itself is never touched. Connections that wait at an older socket of this
/// path stay with whoever holds that.
///
/// # Errors
/// When the directory is missing or not writable, or the path is too long for a socket. What was
/// published stays.
pub fn publish(path: &Path, kind: SocketType, mode: u32) -> io::Result<(OwnedFd, Published)> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the path of a socket"))?;
    let name = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let aside = path.with_file_name(name);
    // One of a process that died in between and had the same process id.
    let _ = fs::remove_file(&aside);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&aside)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(mode))?;
    let published = Published {
        path: path.to_owned(),
        kind,
        mode,
        file: File::at(&aside)?,
    };
    fs::rename(&aside, path)?;
    Ok((socket, published))
}

/// A socket that was published.
#[derive(Clone, Debug)]
pub struct Published {
    path: PathBuf,
    kind: SocketType,
    mode: u32,
    file: File,
}

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
}

impl File {
    /// What is at `path` now; a link there is a file of its own.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

/// What is at the path of a socket that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The socket itself.
    Ours,
    /// Another one that somebody listens at.
    Others,
    /// Nothing, or a socket that nobody listens at any more: it may be published again.
    Vacant,
}

impl Published {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Publishes a socket there again where nobody listens any more; `None` where somebody does.
    ///
    /// # Errors
    /// As [`publish`].
    pub fn again(&self) -> io::Result<Option<(OwnedFd, Self)>> {
        match self.standing() {
            Standing::Vacant => publish(&self.path, self.kind, self.mode).map(Some),
            Standing::Ours | Standing::Others => Ok(None),
        }
    }

    /// Looks at what is there now. Connects to another's socket to see whether it is alive.
    pub fn standing(&self) -> Standing {
        match File::at(&self.path) {
            Ok(found) if found == self.file => return Standing::Ours,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Standing::Vacant,
            _ => {}
        }
        match connect(&self.path, self.kind) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) =>
            {
                Standing::Vacant
            }
            _ => Standing::Others,
        }
    }
}

/// Connects to the socket at `path`. Local, and so done at once.
///
/// # Errors
/// [`NotFound`](io::ErrorKind::NotFound) and [`ConnectionRefused`](io::ErrorKind::ConnectionRefused)
/// where nobody listens, [`WouldBlock`](io::ErrorKind::WouldBlock) where the backlog is full.
pub fn connect(path: &Path, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn published(path: &Path) -> (OwnedFd, Published) {
        publish(path, SocketType::STREAM, 0o666).unwrap()
    }

    #[test]
    fn a_published_socket_takes_the_place_of_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let (old, first) = published(&path);
        assert_eq!(first.standing(), Standing::Ours);
        let (_new, second) = published(&path);
        assert_eq!(first.standing(), Standing::Others);
        assert_eq!(second.standing(), Standing::Ours);
        drop(old);
        UnixStream::connect(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o666
        );
        let left = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 1, "something was left aside");
    }

    #[test]
    fn a_path_without_a_listener_is_vacant() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let (_socket, first) = published(&path);
        let (second, _) = published(&path);
        assert!(first.again().unwrap().is_none());
        drop(second);
        assert_eq!(first.standing(), Standing::Vacant);
        fs::remove_file(&path).unwrap();
        assert_eq!(first.standing(), Standing::Vacant);
        let (_socket, third) = first.again().unwrap().unwrap();
        assert_eq!(third.standing(), Standing::Ours);
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let path = Path::new("/nonexistent/agent.sock");
        let error = publish(path, SocketType::STREAM, 0o666).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
