//! Ends the listeners of Pods whose network interfaces are gone.
//!
//! A listener keeps its Pod's network namespace alive (some 200 kB) after the Pod has ended, so
//! somebody has to notice. When the network plugin removes a Pod, its interfaces leave the
//! namespace, which shows through the listener itself. This needs no privilege and no Kubernetes
//! API.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netdevice;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::enrolment::Registry;
use crate::workload::PodUid;

/// How often the Pods are looked at, by default.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// Looks at every enrolled Pod each `interval`, until `shutdown`. The listeners of a Pod that is
/// gone end, and then `gone` is told.
pub async fn run(
    registry: &Registry,
    interval: Duration,
    gone: impl Fn(&PodUid),
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        for (pod, witness) in registry.witnesses() {
            let look = |index| look(witness.socket.as_fd(), index);
            if is_gone(&witness.interfaces, look) && registry.remove_witnessed(&pod, &witness) {
                tracing::info!(pod_uid = %pod, "a Pod's interfaces are gone; its listeners end");
                gone(&pod);
            }
        }
    }
}

/// What a look at an interface shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    Present,
    Absent,
    /// The look failed, which says nothing.
    Unknown,
}

fn look(socket: BorrowedFd<'_>, index: u32) -> Interface {
    match netdevice::index_to_name_inlined(socket, index) {
        Ok(_) => Interface::Present,
        Err(Errno::NODEV | Errno::NXIO) => Interface::Absent,
        Err(_) => Interface::Unknown,
    }
}

/// Whether a Pod that had `interfaces` is gone: it had some, and all are absent for sure.
fn is_gone(interfaces: &[u32], look: impl Fn(u32) -> Interface) -> bool {
    !interfaces.is_empty()
        && interfaces
            .iter()
            .all(|index| look(*index) == Interface::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_gone_only_when_every_interface_is_absent_for_sure() {
        assert!(is_gone(&[2, 3], |_| Interface::Absent));
        assert!(!is_gone(&[2, 3], |index| if index == 2 {
            Interface::Absent
        } else {
            Interface::Present
        }));
        assert!(!is_gone(&[2], |_| Interface::Unknown));
    }

    #[test]
    fn a_pod_without_interfaces_is_never_gone() {
        assert!(!is_gone(&[], |_| Interface::Absent));
    }
}
