//! Takes the listeners out of a verified request. Everything here may block.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use shared::enrolment::MAX_DESCRIPTORS;

use super::Mode;
use super::descriptor::{Cookie, Namespace, Problem, check_listener, local_address};
use super::handed::{Handed, close};
use super::reown::reown;
use super::served::Served;
use super::turn::{Enrolling, Standing};
use crate::workload::PodUid;

/// What a verified request asks for.
pub(super) struct Wanted<'a> {
    pub(super) pod: &'a PodUid,
    pub(super) port: u16,
    pub(super) mode: Mode,
    /// The network namespace of the agent.
    pub(super) own: Cookie,
    pub(super) addresses: &'a [IpAddr],
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Taken {
    /// The Pod is served already; what it sent is closed.
    Known,
    /// The Pod shares these listeners with others of the node's network; what it sent is closed.
    Joins {
        served: Arc<Served>,
        namespace: Namespace,
    },
    /// Listeners to serve: 127.0.0.1 first, `[::1]` where there is one.
    New {
        listeners: Vec<OwnedFd>,
        namespace: Namespace,
        replaces: bool,
    },
}

/// Why nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another try would not help.
    Rejected(String),
    /// Another try may help.
    Busy(String),
}

fn rejected(why: impl std::fmt::Display) -> Refusal {
    Refusal::Rejected(why.to_string())
}

/// Receives the descriptors that wait on `connection` and makes listeners of them.
///
/// Every descriptor that is not returned is closed before this returns.
pub(super) fn take(
    connection: &OwnedFd,
    wanted: &Wanted<'_>,
    turn: &Enrolling,
) -> Result<Taken, Refusal> {
    let mut handed = Handed::receive(connection)
        .map_err(|errno| rejected(format!("failed to receive the listener: {errno}")))?;
    if handed.descriptors.len() > MAX_DESCRIPTORS {
        return Err(rejected("too many descriptors were handed over"));
    }
    if handed.cut {
        let why = "this node's agent may not open more descriptors";
        return Err(Refusal::Busy(why.to_owned()));
    }
    handed.take(wanted, turn)
}

impl Handed {
    fn take(&mut self, wanted: &Wanted<'_>, turn: &Enrolling) -> Result<Taken, Refusal> {
        let [first, rest @ ..] = self.descriptors.as_slice() else {
            return Err(rejected("no listener was handed over"));
        };
        let named = |problem: Problem| rejected(format!("the listener is refused: {problem}"));
        let v4 = check_listener(first.as_fd()).map_err(named)?;
        if !v4.is_ipv4() {
            return Err(rejected("the first listener must be on 127.0.0.1"));
        }
        let namespace =
            Namespace::inspect(first.as_fd(), wanted.own, wanted.addresses).map_err(named)?;
        for second in rest {
            let v6 = check_listener(second.as_fd()).map_err(named)?;
            if !v6.is_ipv6() {
                return Err(rejected("the second listener must be on [::1]"));
            }
            let other = Namespace::inspect(second.as_fd(), wanted.own, &[]).map_err(named)?;
            if other.cookie != namespace.cookie {
                return Err(named(Problem::DifferentNamespaces));
            }
        }
        let replaces = match turn.claim(namespace.cookie, wanted.port) {
            Standing::New => false,
            Standing::Replaces => true,
            Standing::Known => return Ok(Taken::Known),
            Standing::Joins(served) => return Ok(Taken::Joins { served, namespace }),
            Standing::Unsettled => {
                return Err(Refusal::Busy(
                    "another Pod is enrolled in this network namespace, and the API server has not \
                     shown yet whether both share the node's (`hostNetwork`)"
                        .to_owned(),
                ));
            }
            Standing::Taken => {
                return Err(rejected(
                    "another Pod is enrolled in this network namespace",
                ));
            }
            Standing::Full => {
                return Err(Refusal::Busy(
                    "this node's agent serves as many Pods as it may".to_owned(),
                ));
            }
        };
        let mut handed = self.descriptors.drain(..);
        let first = handed.next().ok_or_else(|| rejected("no listener"))?;
        let mut listeners = Vec::with_capacity(MAX_DESCRIPTORS);
        listeners.push(own(first, v4, wanted)?);
        for second in handed {
            // SDKs use 127.0.0.1; [::1] is a convenience.
            match own(second, std::net::Ipv6Addr::LOCALHOST.into(), wanted) {
                Ok(listener) => listeners.push(listener),
                Err(why) => tracing::debug!(pod_uid = %wanted.pod, ?why, "no listener on [::1]"),
            }
        }
        Ok(Taken::New {
            listeners,
            namespace,
            replaces,
        })
    }
}

/// Makes the listener that is served out of the one that was handed over.
fn own(handed: OwnedFd, address: IpAddr, wanted: &Wanted<'_>) -> Result<OwnedFd, Refusal> {
    match wanted.mode {
        Mode::Plain if port_of(&handed) == Some(wanted.port) => Ok(handed),
        Mode::Plain => {
            close(handed);
            Err(rejected(format!(
                "the agent serves listeners as they are (`--enrolment-mode plain`), but this one \
                 is not on port {}: run `caios-enroll --mode plain`, and see that nothing else in \
                 the Pod listens there",
                wanted.port
            )))
        }
        Mode::Reown => reown(handed, address, wanted.port).map_err(rejected),
    }
}

pub(super) fn port_of(listener: &OwnedFd) -> Option<u16> {
    local_address(listener).map(|address| address.port())
}
