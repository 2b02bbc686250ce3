//! A volume's directory, and the sockets in it. Every directory on the way is opened by its name in
//! the one before, and no link is followed: nothing that is renamed meanwhile leads elsewhere.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use shared::contract::{AGENT_SOCKET, ENROLL_SOCKET};
use shared::socket::File;

use super::decide::{self, Place};

/// Connections that the kernel keeps until they are accepted. A Pod has few.
const BACKLOG: i32 = 64;
/// Every user of the Pod may pass; nobody but root may change what is in it.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
/// Every user of the Pod may connect.
const SOCKET_MODE: Mode = Mode::from_raw_mode(0o666);
/// What is in a volume, in the order in which it is handed over.
const SOCKETS: [(&str, SocketType); 2] = [
    (ENROLL_SOCKET, SocketType::SEQPACKET),
    (AGENT_SOCKET, SocketType::STREAM),
];

/// The listening sockets of a volume: `enroll.sock` and `agent.sock`.
pub(crate) type Sockets = [OwnedFd; 2];

/// Makes the volume's directory and listens at its sockets. Those of an earlier driver are replaced;
/// each path leads to a socket at every moment from the first time on.
///
/// # Errors
/// When the kubelet has not made the parent of the volume, a link is in the way, or a socket cannot
/// be bound.
pub(crate) fn make(pods: &Path, place: &Place) -> io::Result<(Sockets, File)> {
    let (parent, name) = parent(pods, place)?;
    match rustix::fs::mkdirat(&parent, name, DIRECTORY_MODE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let directory = enter(&parent, name)?;
    rustix::fs::fchmod(&directory, DIRECTORY_MODE)?;
    let [enroll, agent] = SOCKETS;
    let sockets = [listen(&directory, enroll)?, listen(&directory, agent)?];
    Ok((sockets, file(&directory)?))
}

/// Removes a volume. One that is not there, or not any more, is as good as removed.
///
/// # Errors
/// When something else is in the directory, or a link is in the way.
pub(crate) fn remove(pods: &Path, place: &Place) -> io::Result<()> {
    let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let (parent, name) = match parent(pods, place) {
        Err(error) if absent(&error) => return Ok(()),
        found => found?,
    };
    let directory = match enter(&parent, name) {
        Err(error) if absent(&error) => return Ok(()),
        found => found?,
    };
    for (socket, _) in SOCKETS {
        for name in [socket.to_owned(), aside(socket)] {
            match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What is at the place of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The enrolment socket that was asked for.
    Ours,
    /// Another one, or something that cannot be looked at.
    Others,
    /// Nothing: the volume is no more.
    Absent,
}

/// Looks for the enrolment socket of a volume.
pub(crate) fn standing(pods: &Path, place: &Place, expected: File) -> Standing {
    match parent(pods, place).and_then(|(parent, name)| file(&enter(&parent, name)?)) {
        Ok(found) if found == expected => Standing::Ours,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Standing::Absent,
        _ => Standing::Others,
    }
}

fn parent(pods: &Path, place: &Place) -> io::Result<(OwnedFd, &'static str)> {
    let (names, last) = decide::path(place);
    // Its own path is the admin's, who may have made a link of it.
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = rustix::fs::openat(CWD, pods, flags, Mode::empty())?;
    for name in names {
        directory = enter(&directory, name)?;
    }
    Ok((directory, last))
}

fn enter(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// Which file the enrolment socket of a volume is: another one of the same name is another volume's.
fn file(directory: &OwnedFd) -> io::Result<File> {
    let found = rustix::fs::statat(directory, ENROLL_SOCKET, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(File {
        device: found.st_dev,
        inode: found.st_ino,
    })
}

fn aside(name: &str) -> String {
    format!(".{name}.new")
}

/// Listens at a socket of the directory, bound aside and renamed into place. Its whole path would be
/// too long for a socket's address; that of the directory's descriptor is not.
fn listen(directory: &OwnedFd, (name, kind): (&str, SocketType)) -> io::Result<OwnedFd> {
    let aside = aside(name);
    match rustix::fs::unlinkat(directory, aside.as_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    let path = format!("/proc/self/fd/{}/{aside}", directory.as_fd().as_raw_fd());
    rustix::net::bind(&socket, &SocketAddrUnix::new(path.as_str())?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    rustix::fs::chmodat(directory, aside.as_str(), SOCKET_MODE, AtFlags::empty())?;
    rustix::fs::renameat(directory, aside.as_str(), directory, name)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    fn node() -> (tempfile::TempDir, PathBuf, Place) {
        let pods = tempfile::tempdir().unwrap();
        let place = Place {
            pod: "0f1e4b9e-8b47-4a39-9c5c-0d9d8a0e9f11".to_owned(),
            name: "a-volume-with-a-name-that-makes-its-path-longer-than-an-address".to_owned(),
        };
        let ([pod, volumes, plugin, name], _) = decide::path(&place);
        let parent = pods.path().join(pod).join(volumes).join(plugin).join(name);
        fs::create_dir_all(&parent).unwrap();
        (pods, parent, place)
    }

    #[test]
    fn a_volume_is_made_with_sockets_for_everybody_and_made_again_in_place() {
        let (pods, parent, place) = node();
        let (_first, file) = make(pods.path(), &place).unwrap();
        let mount = parent.join("mount");
        let inode = fs::metadata(&mount).unwrap().ino();
        assert_eq!(fs::metadata(&mount).unwrap().mode() & 0o7777, 0o755);
        for name in ["enroll.sock", "agent.sock"] {
            let mode = fs::metadata(mount.join(name)).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o666, "{name}");
        }
        assert_eq!(standing(pods.path(), &place, file), Standing::Ours);
        let (_second, again) = make(pods.path(), &place).unwrap();
        assert_eq!(
            fs::metadata(&mount).unwrap().ino(),
            inode,
            "a mount of it went stale"
        );
        assert_eq!(standing(pods.path(), &place, file), Standing::Others);
        assert_eq!(standing(pods.path(), &place, again), Standing::Ours);
        assert_eq!(
            fs::read_dir(&mount).unwrap().count(),
            2,
            "something was left aside"
        );
    }

    #[test]
    fn a_volume_is_removed_twice_and_so_is_one_that_never_was() {
        let (pods, parent, place) = node();
        let (_sockets, file) = make(pods.path(), &place).unwrap();
        for _ in 0..2 {
            remove(pods.path(), &place).unwrap();
            assert_eq!(fs::read_dir(&parent).unwrap().count(), 0);
            assert_eq!(standing(pods.path(), &place, file), Standing::Absent);
        }
        fs::remove_dir_all(pods.path().join(&place.pod)).unwrap();
        remove(pods.path(), &place).unwrap();
        assert_eq!(
            make(pods.path(), &place).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn no_link_is_followed_wherever_it_is() {
        let example = node().2;
        let ([_, volumes, plugin, _], _) = decide::path(&example);
        for linked in 0..5 {
            let (pods, _, place) = node();
            let elsewhere = tempfile::tempdir().unwrap();
            let names = [&place.pod, volumes, plugin, &place.name, "mount"];
            // The same directories elsewhere, so that a link that is followed leads somewhere.
            let link = names
                .iter()
                .take(linked + 1)
                .fold(pods.path().to_owned(), |path, name| path.join(name));
            let rest = names.iter().skip(linked + 1).take(3 - linked.min(3));
            let behind = rest.fold(elsewhere.path().to_owned(), |path, name| path.join(name));
            fs::create_dir_all(&behind).unwrap();
            if linked < 4 {
                fs::remove_dir_all(&link).unwrap();
            }
            symlink(elsewhere.path(), &link).unwrap();
            assert!(make(pods.path(), &place).is_err(), "{}", link.display());
            assert!(remove(pods.path(), &place).is_err(), "{}", link.display());
            let made = fs::read_dir(&behind).unwrap().count();
            assert_eq!(made, 0, "made something behind {}", link.display());
        }
    }

    #[test]
    fn what_is_not_ours_is_not_removed() {
        let (pods, parent, place) = node();
        let _made = make(pods.path(), &place).unwrap();
        fs::write(parent.join("mount/other"), "").unwrap();
        assert!(remove(pods.path(), &place).is_err());
        assert!(parent.join("mount/other").exists());
    }
}
