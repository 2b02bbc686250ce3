//! Unix sockets that others find by their path: bound aside, then renamed into place.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Publishes at `path` the socket that `bind` makes at the path that it is given, open to every
/// user.
///
/// It is renamed into place when it is bound and its mode is set, so there is no moment in which
/// `path` has no socket or one that not everybody may open. Mounts of the *directory* see the new
/// socket; the directory itself is never touched.
///
/// # Errors
/// When `bind` fails, or the directory is missing or not writable. What was published stays.
pub fn publish<T>(path: &Path, bind: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    publish_with(path, 0o666, bind)
}

/// Publishes a socket like [`publish`], for the agent's own user alone.
///
/// # Errors
/// As [`publish`].
pub fn publish_private<T>(path: &Path, bind: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    publish_with(path, 0o600, bind)
}

fn publish_with<T>(
    path: &Path,
    mode: u32,
    bind: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the path of a socket"))?;
    let name = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let aside = path.with_file_name(name);
    // One of an agent that died in between and had the same process id.
    let _ = fs::remove_file(&aside);
    let socket = bind(&aside)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(mode))?;
    fs::rename(&aside, path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_published_socket_takes_the_place_of_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let bind = |aside: &Path| UnixListener::bind(aside);
        let old = publish(&path, bind).unwrap();
        let new = publish(&path, bind).unwrap();
        drop(old);
        UnixStream::connect(&path).unwrap();
        new.accept().unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o666
        );
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "something was left aside"
        );
    }

    #[test]
    fn a_private_socket_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let _socket = publish_private(&path, |aside| UnixListener::bind(aside)).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let bind = |aside: &Path| UnixListener::bind(aside);
        let error = publish(Path::new("/nonexistent/agent.sock"), bind).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
