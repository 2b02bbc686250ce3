//! A Pod's turn to enrol, and the place that it claims.

use std::sync::Arc;

use super::descriptor::Cookie;
use super::networks::{Network, Networks};
use super::registration::Registration;
use super::registry::{Registry, State};
use super::served::Served;
use crate::workload::PodUid;

/// Where a Pod is about to be served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    cookie: Cookie,
    port: u16,
}

/// What a Pod that enrols is to the registry.
#[derive(Debug)]
pub(super) enum Standing {
    /// It is new.
    New,
    /// It is served already.
    Known,
    /// It has a new network namespace; the old listener ends.
    Replaces,
    /// It shares the node's network, and these listeners, with others.
    Joins(Arc<Served>),
    /// It is not known yet whether it may share those of others: to be tried again.
    Unsettled,
    /// Its network namespace is another Pod's.
    Taken,
    /// There are too many Pods.
    Full,
}

/// Who else is where a Pod wants to be served.
#[derive(Debug)]
enum Beside {
    Nobody,
    /// Pods whose listeners it may share.
    Served(Arc<Served>),
    /// Somebody of whom it is not known yet.
    Unsettled,
    /// A Pod that shares nothing.
    Taken,
}

impl State {
    /// Who else is, or is about to be, where `pod` wants to be served.
    fn beside(&self, pod: &PodUid, claim: Claim, networks: &Networks) -> Beside {
        let enrolled = self.pods.iter().map(|(uid, registration)| {
            let Registration { cookie, about, .. } = registration;
            let port = about.port;
            let claim = Claim {
                cookie: *cookie,
                port,
            };
            (uid, claim, Some(registration))
        });
        let enrolling = self.enrolling.iter();
        let enrolling = enrolling.filter_map(|(uid, claim)| Some((uid, (*claim)?, None)));
        let own = networks.of(pod);
        let mut beside = Beside::Nobody;
        for (uid, other, registration) in enrolled.chain(enrolling) {
            let is_known = registration.is_some_and(|it| it.about.host_network);
            let theirs = if is_known {
                Network::Nodes
            } else {
                networks.of(uid)
            };
            let both_nodes = (own, theirs) == (Network::Nodes, Network::Nodes);
            // Without cookies there is still but one network of the node.
            let same = other.cookie == claim.cookie && (claim.cookie.is_some() || both_nodes);
            if uid == pod || !same {
                continue;
            }
            match (own, theirs) {
                (Network::Nodes, Network::Nodes) if other.port != claim.port => {}
                (Network::Nodes, Network::Nodes) => match registration {
                    Some(it) => beside = Beside::Served(Arc::clone(&it.served)),
                    // Its listener is to be shared once it is there.
                    None if matches!(beside, Beside::Nobody) => beside = Beside::Unsettled,
                    None => {}
                },
                (Network::Own, _) | (_, Network::Own) => return Beside::Taken,
                _ => return Beside::Unsettled,
            }
        }
        beside
    }
}

/// A Pod's turn to enrol; others of it wait outside until this is dropped.
#[derive(Debug)]
pub(super) struct Enrolling {
    registry: Arc<Registry>,
    pod: PodUid,
}

impl Enrolling {
    /// The turn of a Pod that is among those that enrol.
    pub(super) const fn new(registry: Arc<Registry>, pod: PodUid) -> Self {
        Self { registry, pod }
    }

    /// Tells what the Pod is, with the network namespace `cookie`. Where it may enrol, namespace
    /// and place are its own as long as the turn lasts: of two that come at once, one is refused.
    ///
    /// Without cookies (kernels before 5.14) uid and interfaces tell: a Pod that is served is
    /// known, unless its interfaces are gone. Runtimes take them away before they make a new
    /// sandbox, and it may enrol before `reap` has seen that.
    ///
    /// A network namespace that Pods share is the node's, and the API server must have said that each
    /// of them is in that: otherwise a Pod with the token of another could enrol it into its own.
    pub(super) fn claim(&self, cookie: Cookie, port: u16) -> Standing {
        let mut state = self.registry.lock();
        state.forget_dead();
        let known = state.pods.get(&self.pod);
        let standing = match known {
            Some(registration)
                if registration.cookie == cookie
                    && (cookie.is_some() || !registration.is_gone()) =>
            {
                return Standing::Known;
            }
            Some(_) => Standing::Replaces,
            None => Standing::New,
        };
        let claim = Claim { cookie, port };
        let beside = state.beside(&self.pod, claim, &self.registry.networks);
        let is_new = matches!(standing, Standing::New);
        if is_new && state.expected() >= self.registry.max_pods {
            return Standing::Full;
        }
        let standing = match beside {
            Beside::Taken => return Standing::Taken,
            Beside::Unsettled => return Standing::Unsettled,
            Beside::Served(served) => Standing::Joins(served),
            Beside::Nobody => standing,
        };
        state.enrolling.insert(self.pod.clone(), Some(claim));
        standing
    }
}

impl Drop for Enrolling {
    fn drop(&mut self) {
        self.registry.lock().enrolling.remove(&self.pod);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const PORT: u16 = 27169;

    #[test]
    fn of_two_pods_that_enrol_at_once_one_gets_the_namespace() {
        let registry = Registry::new(8);
        let (a, b) = (PodUid::new("a"), PodUid::new("b"));
        let first = registry.begin(&a).unwrap();
        let second = registry.begin(&b).unwrap();
        assert!(matches!(first.claim(Some(1), PORT), Standing::New));
        assert!(matches!(second.claim(Some(1), PORT), Standing::Taken));
        assert!(matches!(second.claim(Some(2), PORT), Standing::New));
        drop((first, second));
        let second = registry.begin(&b).unwrap();
        let standing = second.claim(Some(1), PORT);
        assert!(matches!(standing, Standing::New), "a claim outlived");
    }

    #[test]
    fn pods_that_share_a_network_take_turns_where_the_api_server_says_that_it_is_the_nodes() {
        let registry = Registry::new(8);
        registry.expect_networks();
        let (a, b) = (PodUid::new("a"), PodUid::new("b"));
        let first = registry.begin(&a).unwrap();
        let second = registry.begin(&b).unwrap();
        assert!(matches!(first.claim(Some(1), PORT), Standing::New));
        for (said, waits) in [
            (&[][..], true),
            (&[("a", true)], true),
            (&[("b", true)], true),
            (&[("a", true), ("b", true)], true),
            (&[("a", true), ("b", false)], false),
            (&[("a", false), ("b", true)], false),
            (&[("a", false)], false),
        ] {
            let pods = said.iter().map(|(name, it)| (PodUid::new(name), *it));
            registry.show_networks(pods.collect());
            let standing = second.claim(Some(1), PORT);
            let as_wanted = match standing {
                Standing::Unsettled => waits,
                Standing::Taken => !waits,
                _ => false,
            };
            assert!(as_wanted, "{said:?}: {standing:?}");
        }
        registry.show_networks(HashMap::from([(a, true), (b, true)]));
        let elsewhere = second.claim(Some(1), PORT + 1);
        assert!(matches!(elsewhere, Standing::New), "{elsewhere:?}");
    }

    #[test]
    fn pods_that_enrol_at_once_do_not_exceed_the_most() {
        let registry = Registry::new(2);
        let turns = ["a", "b", "c"].map(|uid| registry.begin(&PodUid::new(uid)).unwrap());
        let mut cookies = 1..;
        let standings = turns
            .each_ref()
            .map(|turn| turn.claim(cookies.next(), PORT));
        assert!(matches!(
            standings,
            [Standing::New, Standing::New, Standing::Full]
        ));
    }

    #[test]
    fn a_pod_enrols_once_at_a_time() {
        let registry = Registry::new(2);
        let turn = registry.begin(&PodUid::new("a"));
        assert!(registry.begin(&PodUid::new("a")).is_none());
        drop(turn);
        assert!(registry.begin(&PodUid::new("a")).is_some());
    }
}
