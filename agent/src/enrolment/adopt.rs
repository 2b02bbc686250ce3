//! Listeners that come back from the keeper.

use std::os::fd::{AsFd, OwnedFd};

use super::about::About;
use super::conversation::Shared;
use super::descriptor::{Cookie, Namespace, check_listener};
use super::registration::Witness;
use super::take::port_of;
use super::{Enroller, Intake};

/// What became of a listener that the keeper has sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Adopted {
    /// It is served now.
    Served,
    /// This agent serves it already, or ends and serves no more.
    Known,
    /// This agent has a later one: the keeper is to be told.
    Outdated,
    /// Its Pod has ended meanwhile: the keeper may let it go.
    Ended,
    /// It is no listener that this agent could serve, for this reason. The keeper goes on holding it,
    /// for an agent of another version.
    Refused(String),
}

impl<E: Enroller> Intake<E> {
    /// Serves the `listeners` that the keeper holds under what this agent, or one before it, has
    /// said `about` them. Everything is checked again: whoever can reach the keeper's socket is
    /// trusted no further than a Pod.
    pub(crate) fn adopt(&self, about: &[u8], listeners: Vec<OwnedFd>) -> Adopted {
        match About::read(about) {
            Some(about) => self.shared().adopt(about, listeners),
            None => Adopted::Refused("its entry is of another version".to_owned()),
        }
    }
}

impl<E: Enroller> Shared<E> {
    fn adopt(&self, about: About, listeners: Vec<OwnedFd>) -> Adopted {
        let cookie = match check(&listeners, about.port, self.own) {
            Ok(cookie) => cookie,
            Err(why) => return Adopted::Refused(why),
        };
        let uid = about.pod.uid.clone();
        if self.registry.is_draining() {
            return Adopted::Known;
        }
        if let Some((known, since)) = self.registry.known(&uid) {
            if known == cookie {
                return Adopted::Known;
            }
            if since > about.since {
                return Adopted::Outdated;
            }
        }
        // While it enrols, what comes of that is newer than what was held.
        let Some(turn) = self.registry.begin(&uid) else {
            return Adopted::Known;
        };
        let Some(first) = listeners.first() else {
            return Adopted::Refused("no listener came with its entry".to_owned());
        };
        if !about.host_network && Witness::is_gone_from(first.as_fd(), &about.interfaces) {
            return Adopted::Ended;
        }
        let shared = self.registry.shared(cookie, about.port);
        let registration = match shared.filter(|_| about.host_network) {
            // The keeper has held it for each of its Pods.
            Some(served) => Ok(self.join(about, cookie, served)),
            None => self.serve(about, cookie, listeners),
        };
        match registration {
            Ok(registration) => {
                self.registry.adopt(registration);
                drop(turn);
                Adopted::Served
            }
            Err(error) => Adopted::Refused(error.to_string()),
        }
    }
}

/// Checks that all are listeners on loopback at `port`, in one network namespace, which is not the
/// agent's own.
pub(super) fn check(listeners: &[OwnedFd], port: u16, own: Cookie) -> Result<Cookie, String> {
    let mut cookies = Vec::with_capacity(listeners.len());
    for listener in listeners {
        check_listener(listener.as_fd()).map_err(|problem| problem.to_string())?;
        if port_of(listener) != Some(port) {
            return Err(format!("it is not on port {port}"));
        }
        let found = Namespace::inspect(listener.as_fd(), own, &[]);
        cookies.push(found.map_err(|problem| problem.to_string())?.cookie);
    }
    match cookies.as_slice() {
        [] => Err("no listener came with its entry".to_owned()),
        [first, rest @ ..] if rest.iter().all(|other| other == first) => Ok(*first),
        _ => Err("its listeners are in different network namespaces".to_owned()),
    }
}
