//! Makes the directories of a node's sockets, before its agent starts.
//!
//! The kubelet makes a missing hostPath directory as root's, and the agent is not root. Whoever owns
//! a directory may give it to a group that he is in himself, without any capability (chown(2)). So
//! root, with every capability dropped and the agent's group beside its own, is enough to let the
//! agent write where Pods look for its sockets.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use shared::contract::{PRIVATE_NAME, PUBLIC_NAME};

/// The node's directory: everybody may pass, nobody but its owner may change what is in it.
const NODE_MODE: Mode = Mode::from_raw_mode(0o755);
/// Pods reach the sockets in it; the agent's group makes them.
const PUBLIC_MODE: Mode = Mode::from_raw_mode(0o775);
/// For the agent's group alone.
const PRIVATE_MODE: Mode = Mode::from_raw_mode(0o770);
/// What others than the owner need to put something else in a directory's place.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why a node is not prepared. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A system call failed.
    #[error("failed to {what} `{}`", .path.display())]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else is in the place of a directory.
    #[error(
        "`{}` is no directory; symbolic links are not followed. Remove it on the node",
        .0.display()
    )]
    NoDirectory(PathBuf),
    /// Its owner could take back what is given to the agent.
    #[error(
        "`{path}` belongs to user {owner}, and this runs as user {expected}: on the node, run \
         `chown {expected} {path}`", path = .path.display()
    )]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it must be.
        expected: u32,
    },
    /// Others could put directories of their own in the place of the agent's.
    #[error(
        "others than its owner may write to `{path}`: on the node, run `chmod go-w {path}`",
        path = .0.display()
    )]
    WritableByOthers(PathBuf),
    /// The process may not give a directory to the agent.
    #[error(
        "failed to give `{}` to group {group}: run this as root with the supplementary group \
         {group} (`securityContext.supplementalGroups`)", .path.display()
    )]
    NotInGroup {
        /// The directory.
        path: PathBuf,
        /// The agent's group.
        group: u32,
    },
}

/// Makes `public` (mode 0775) and `private` (mode 0770) in `directory`, both of the caller and of
/// `group`, and `directory` itself (mode 0755) where it is missing.
///
/// What is there stays: a directory is never replaced, because mounts of it would go stale. Nobody
/// ever sees a mode that is wider than the final one. Running it again changes nothing.
///
/// # Errors
/// When something in the way cannot be trusted, or the process is not the owner or not in `group`.
pub fn prepare(directory: &Path, group: u32) -> Result<(), Problem> {
    make(CWD, directory, directory, NODE_MODE)?;
    let node = open(CWD, directory, directory)?;
    if stat(&node, directory)?.st_mode & WRITABLE_BY_OTHERS != 0 {
        return Err(Problem::WritableByOthers(directory.to_owned()));
    }
    for (name, mode) in [(PUBLIC_NAME, PUBLIC_MODE), (PRIVATE_NAME, PRIVATE_MODE)] {
        let path = directory.join(name);
        // Closed to all others until it has its group and its mode.
        make(&node, Path::new(name), &path, Mode::RWXU)?;
        let made = open(&node, Path::new(name), &path)?;
        give(&made, &path, group, mode)?;
    }
    Ok(())
}

fn kernel(what: &'static str, path: &Path) -> impl Fn(Errno) -> Problem {
    move |errno| Problem::Kernel {
        what,
        path: path.to_owned(),
        source: errno.into(),
    }
}

/// Makes the directory `name` in `parent` if nothing is there. `path` is what people call it.
fn make(parent: impl AsFd, name: &Path, path: &Path, mode: Mode) -> Result<(), Problem> {
    match rustix::fs::mkdirat(parent, name, mode) {
        Err(Errno::EXIST) => Ok(()),
        other => other.map_err(kernel("make", path)),
    }
}

/// Opens a directory of the caller's own. It is looked at before, because what a stranger owns may
/// not let itself be opened, and after, because it may have been replaced in between.
fn open(parent: impl AsFd, name: &Path, path: &Path) -> Result<OwnedFd, Problem> {
    let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
    check(&found.map_err(kernel("look at", path))?, path)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
    let opened = opened.map_err(kernel("open", path))?;
    check(&stat(&opened, path)?, path)?;
    Ok(opened)
}

fn stat(directory: &OwnedFd, path: &Path) -> Result<Stat, Problem> {
    rustix::fs::fstat(directory).map_err(kernel("look at", path))
}

fn check(found: &Stat, path: &Path) -> Result<(), Problem> {
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Err(Problem::NoDirectory(path.to_owned()));
    }
    let (owner, expected) = (found.st_uid, geteuid().as_raw());
    if owner != expected {
        return Err(Problem::ForeignOwner {
            path: path.to_owned(),
            owner,
            expected,
        });
    }
    Ok(())
}

/// Gives a directory to `group`, with `mode`. Whatever else its mode allows is taken away first.
fn give(directory: &OwnedFd, path: &Path, group: u32, mode: Mode) -> Result<(), Problem> {
    let found = stat(directory, path)?;
    let current = Mode::from_raw_mode(found.st_mode);
    let change = |to: Mode| {
        let changed = rustix::fs::fchmod(directory, to);
        changed.map_err(kernel("change the mode of", path))
    };
    if !mode.contains(current) {
        change(current & mode)?;
    }
    if found.st_gid != group {
        match rustix::fs::fchown(directory, None, Some(Gid::from_raw(group))) {
            Err(Errno::PERM) => {
                return Err(Problem::NotInGroup {
                    path: path.to_owned(),
                    group,
                });
            }
            given => given.map_err(kernel("change the group of", path))?,
        }
    }
    if current != mode {
        change(mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn own_group() -> u32 {
        rustix::process::getegid().as_raw()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_bare_directory_gets_both_with_their_modes_and_so_does_a_missing_one() {
        let place = tempfile::tempdir().unwrap();
        for name in ["bare", "missing"] {
            let node = place.path().join(name);
            if name == "bare" {
                fs::create_dir(&node).unwrap();
                set_mode(&node, 0o755);
            }
            prepare(&node, own_group()).unwrap();
            assert_eq!(mode(&node.join("public")), 0o775);
            assert_eq!(mode(&node.join("private")), 0o770);
        }
    }

    #[test]
    fn what_is_there_stays_and_only_its_mode_is_mended() {
        let node = tempfile::tempdir().unwrap();
        let (public, private) = (node.path().join("public"), node.path().join("private"));
        fs::create_dir(&public).unwrap();
        fs::create_dir(&private).unwrap();
        set_mode(&public, 0o755);
        set_mode(&private, 0o2777);
        fs::write(public.join("agent.sock"), "").unwrap();
        let before = fs::metadata(&public).unwrap().ino();
        for _ in 0..2 {
            prepare(node.path(), own_group()).unwrap();
            assert_eq!((mode(&public), mode(&private)), (0o775, 0o770));
            assert_eq!(fs::metadata(&public).unwrap().ino(), before);
            assert!(public.join("agent.sock").exists());
        }
    }

    #[test]
    fn nothing_is_followed_and_no_file_is_taken_for_a_directory() {
        let (node, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let public = node.path().join("public");
        symlink(elsewhere.path(), &public).unwrap();
        let refused = prepare(node.path(), own_group()).unwrap_err();
        assert!(matches!(refused, Problem::NoDirectory(path) if path == public));
        fs::remove_file(&public).unwrap();
        fs::write(&public, "").unwrap();
        let refused = prepare(node.path(), own_group()).unwrap_err();
        assert!(matches!(refused, Problem::NoDirectory(path) if path == public));
        let link = node.path().join("link");
        symlink(elsewhere.path(), &link).unwrap();
        let refused = prepare(&link, own_group()).unwrap_err();
        assert!(matches!(refused, Problem::NoDirectory(path) if path == link));
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_in_which_others_may_replace_things_is_refused() {
        let node = tempfile::tempdir().unwrap();
        for writable in [0o775, 0o757, 0o1777] {
            set_mode(node.path(), writable);
            let refused = prepare(node.path(), own_group()).unwrap_err();
            assert!(matches!(refused, Problem::WritableByOthers(_)), "{refused}");
        }
        assert_eq!(fs::read_dir(node.path()).unwrap().count(), 0);
    }
}
