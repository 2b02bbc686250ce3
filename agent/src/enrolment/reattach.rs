//! A listener that somebody else has made in a Pod's network namespace, because its own was lost.

use std::os::fd::{AsFd, OwnedFd};

use super::about::About;
use super::adopt::check;
use super::descriptor::{Namespace, POD_INTERFACE};
use super::turn::Standing;
use super::{Enroller, Intake, Mode};
use crate::metrics::EnrolmentOutcome;
use crate::watch::LostPod;

impl<E: Enroller> Intake<E> {
    /// Serves `listeners` for a Pod that has lost its own. They must be on loopback at the Pod's port,
    /// in a network namespace that has one of the Pod's addresses and is nobody else's. Returns when the
    /// keeper has them too, or takes too long for that.
    ///
    /// # Errors
    /// Why they are not served.
    ///
    /// # Cancel safety
    /// Safe: they are served or not.
    pub(crate) async fn reattach(
        &self,
        lost: &LostPod,
        listeners: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let shared = self.shared();
        let cookie = check(&listeners, lost.port, shared.own)?;
        let Some(first) = listeners.first() else {
            return Err("no listener came along".to_owned());
        };
        if !lost.addresses.iter().any(std::net::IpAddr::is_ipv4) {
            return Err("the Pod has no IPv4 address by which its network is known".to_owned());
        }
        let namespace = Namespace::inspect(first.as_fd(), shared.own, &lost.addresses);
        let namespace = namespace.map_err(|problem| problem.to_string())?;
        if namespace.interfaces.is_empty() {
            return Err(format!("its network namespace has no `{POD_INTERFACE}`"));
        }
        let registry = &shared.registry;
        if registry.is_draining() {
            return Err("this agent is about to end".to_owned());
        }
        let Some(turn) = registry.begin(&lost.pod.uid) else {
            return Err("the Pod enrols just now".to_owned());
        };
        match turn.claim(cookie, lost.port) {
            Standing::New | Standing::Replaces => {}
            Standing::Known => return Ok(()),
            Standing::Joins(_) | Standing::Unsettled | Standing::Taken => {
                return Err("another Pod is enrolled in this network namespace".to_owned());
            }
            Standing::Full => {
                return Err("this node's agent serves as many Pods as it may".to_owned());
            }
        }
        let about = About {
            pod: lost.pod.clone(),
            port: lost.port,
            // Nobody in the Pod has had it.
            mode: Mode::Reown,
            interfaces: namespace.interfaces,
            host_network: false,
            since: shared.clock.now(),
        };
        let registration = shared
            .serve(about, cookie, listeners)
            .map_err(|error| error.to_string())?;
        registry.insert(registration);
        drop(turn);
        // It was lost once because nobody else had it.
        shared.kept(&lost.pod.uid).await;
        let outcome = EnrolmentOutcome::Reattached;
        shared.metrics.enrolments.of(outcome).inc();
        Ok(())
    }
}
