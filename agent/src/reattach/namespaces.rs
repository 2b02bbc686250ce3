//! The network namespaces of a node's Pods, and listeners in them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use super::message::Wanted;
use crate::enrolment::addresses;

/// What was found for one Pod.
#[derive(Debug)]
pub(super) struct Found {
    /// Its uid.
    pub(super) uid: String,
    /// On 127.0.0.1, and on `[::1]` where there is one.
    pub(super) listeners: io::Result<Vec<OwnedFd>>,
}

/// Looks into every network namespace of `directory`, and makes listeners in those of Pods that want
/// them. A Pod whose address is in several gets none: which of them is its own cannot be told.
///
/// Needs `CAP_SYS_ADMIN`. Each namespace is entered by a thread that ends with it.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn search(directory: &Path, wanted: &[Wanted]) -> io::Result<Vec<Found>> {
    let mut places: HashMap<&str, Vec<PathBuf>> = HashMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let here = match inside(&path, || {
            let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            Ok(addresses(probe.as_fd()))
        }) {
            Ok(here) => here,
            Err(error) => {
                // One that has just been taken away, or is none.
                tracing::debug!(path = %path.display(), %error, "failed to look into a namespace");
                continue;
            }
        };
        for pod in wanted.iter().filter(|pod| is_of(pod, &here)) {
            places.entry(&pod.uid).or_default().push(path.clone());
        }
    }
    let mut found = Vec::new();
    for pod in wanted {
        let listeners = match places.get(pod.uid.as_str()).map(Vec::as_slice) {
            None | Some([]) => continue,
            Some([only]) => inside(only, || listen(pod.port)),
            Some(_) => Err(io::Error::other(
                "its address is in more than one network namespace",
            )),
        };
        let uid = pod.uid.clone();
        found.push(Found { uid, listeners });
    }
    Ok(found)
}

/// Whether a namespace with the addresses `here` is that of `pod`.
fn is_of(pod: &Wanted, here: &[IpAddr]) -> bool {
    pod.addresses.iter().any(|address| here.contains(address))
}

/// Runs `work` in a thread inside the network namespace at `path`.
fn inside<T: Send>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        entered
            .join()
            .unwrap_or_else(|_panic| Err(io::Error::other("the thread panicked")))
    })
}

fn listen(port: u16) -> io::Result<Vec<OwnedFd>> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    // SDKs use 127.0.0.1; [::1] is a convenience.
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok();
    let mut listeners = Vec::new();
    for listener in [Some(v4), v6].into_iter().flatten() {
        listener.set_nonblocking(true)?;
        listeners.push(listener.into());
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_pods_where_one_of_its_addresses_is() {
        let parsed = |text: &str| text.parse::<IpAddr>().unwrap();
        let pod = Wanted {
            uid: "u".to_owned(),
            addresses: vec![parsed("fd00::7"), parsed("10.1.2.3")],
            port: 1,
        };
        assert!(is_of(&pod, &[parsed("10.9.9.9"), parsed("10.1.2.3")]));
        assert!(!is_of(&pod, &[parsed("10.1.2.4")]));
        assert!(!is_of(&pod, &[]));
    }
}
