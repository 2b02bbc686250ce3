//! What follows from the Pods that the API server shows and the listeners that are served: every
//! decision, without a clock or a call of its own.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::accounts::{Account, Accounts, Says};
use super::memory::Pods;
use super::pod::{Injection, Seen, Stage, Wish};
use super::since::Since;
use crate::workload::PodUid;

/// What can be seen of the network namespace of a listener.
pub(super) trait Sight {
    /// Whether the Pod's interfaces have left it; `None` where it never had any to tell by.
    fn is_gone(&self) -> Option<bool>;

    /// The IPv4 addresses in it, without those of loopback.
    fn addresses(&self) -> Vec<IpAddr>;
}

/// Looks at everything, and remembers since when it is so.
#[derive(Debug)]
pub(super) struct Judge {
    grace: Duration,
    /// Where the injector leaves Pods alone.
    excluded: HashSet<String>,
    ended: Since,
    misplaced: Since,
    unserved: Since,
    /// Enrolled Pods that share the namespace of the node, whose interfaces outlive them.
    host_network: HashSet<PodUid>,
    /// Pods whose listener was not theirs: that they have none is known, and why.
    rejected: HashSet<PodUid>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Look<'a, W> {
    /// Listeners that are to end, because their Pod has.
    pub(super) ended: Vec<(&'a PodUid, &'a W)>,
    /// Listeners that are to end, because they are in another network namespace than their Pod.
    pub(super) misplaced: Vec<(&'a Seen, &'a W)>,
    /// What Pods lack. `None` while what is known may be old.
    pub(super) lacks: Option<Lacks<'a>>,
    /// Time alone may bring more: look again soon.
    pub(super) is_pending: bool,
}

/// What Pods lack.
#[derive(Debug, Default)]
pub(super) struct Lacks<'a> {
    /// They are to have a listener and have none.
    pub(super) listener: Vec<&'a Seen>,
    /// They are to be injected and are not.
    pub(super) injection: Vec<&'a Seen>,
    /// What decides about Pods that are not injected.
    pub(super) accounts: HashSet<Account>,
    /// One of these that is to be asked.
    pub(super) due: Option<Account>,
}

impl Judge {
    /// A difference counts when it has lasted for `grace`.
    pub(super) fn new(grace: Duration, excluded: HashSet<String>) -> Self {
        Self {
            grace,
            excluded,
            ended: Since::default(),
            misplaced: Since::default(),
            unserved: Since::default(),
            host_network: HashSet::new(),
            rejected: HashSet::new(),
        }
    }

    /// The Pod's listener was taken from it.
    pub(super) fn reject(&mut self, pod: &PodUid) {
        self.rejected.insert(pod.clone());
    }

    /// Whether the Pod's listener was taken from it.
    pub(super) fn is_rejected(&self, pod: &PodUid) -> bool {
        self.rejected.contains(pod)
    }

    /// Compares what the API server shows with what is served.
    pub(super) fn look<'a, W: Sight>(
        &mut self,
        pods: &'a Pods,
        served: &'a [(PodUid, W)],
        accounts: &Accounts,
        now: Instant,
    ) -> Look<'a, W> {
        for since in [&mut self.ended, &mut self.misplaced, &mut self.unserved] {
            since.turn();
        }
        let is_current = pods.is_current(now);
        let mut look = Look {
            ended: Vec::new(),
            misplaced: Vec::new(),
            lacks: None,
            is_pending: false,
        };
        self.host_network
            .retain(|pod| served.iter().any(|(uid, _)| uid == pod));
        for (uid, sight) in served {
            self.rejected.remove(uid);
            let seen = pods.get(uid);
            if seen.is_some_and(|seen| seen.host_network) {
                self.host_network.insert(uid.clone());
            }
            match seen {
                Some(seen) if seen.stage != Stage::Finished => {
                    self.place(seen, sight, is_current, now, &mut look);
                }
                None if !pods.is_listed() => {}
                _ => self.end(uid, sight, is_current, now, &mut look),
            }
        }
        if is_current {
            look.lacks = Some(self.lacks(pods, served, accounts, now, &mut look.is_pending));
        }
        self.rejected.retain(|pod| pods.get(pod).is_some());
        look
    }

    /// A Pod that has finished, or that is not known: its listener ends when its interfaces are
    /// gone too. An API server may have lost a Pod that lives.
    fn end<'a, W: Sight>(
        &mut self,
        uid: &'a PodUid,
        sight: &'a W,
        is_current: bool,
        now: Instant,
        look: &mut Look<'a, W>,
    ) {
        let tells = !self.host_network.contains(uid);
        let is_gone = tells.then(|| sight.is_gone()).flatten();
        let has_ended =
            is_gone.unwrap_or_else(|| is_current && self.ended.lasts(uid, now) >= self.grace);
        if has_ended {
            look.ended.push((uid, sight));
        } else {
            look.is_pending = true;
        }
    }

    /// A Pod that lives: is its listener where the Pod is? The kubelet may be behind with the
    /// addresses of a new sandbox, and more so while the API server is away.
    fn place<'a, W: Sight>(
        &mut self,
        seen: &'a Seen,
        sight: &'a W,
        is_current: bool,
        now: Instant,
        look: &mut Look<'a, W>,
    ) {
        if !is_current || seen.host_network || !contradict(&seen.addresses, sight) {
            return;
        }
        if self.misplaced.lasts(&seen.pod.uid, now) >= self.grace {
            look.misplaced.push((seen, sight));
        } else {
            look.is_pending = true;
        }
    }

    fn lacks<'a, W>(
        &mut self,
        pods: &'a Pods,
        served: &[(PodUid, W)],
        accounts: &Accounts,
        now: Instant,
        is_pending: &mut bool,
    ) -> Lacks<'a> {
        let mut lacks = Lacks::default();
        let served: HashSet<_> = served.iter().map(|(uid, _)| uid).collect();
        for seen in pods.iter() {
            if seen.is_ending || seen.stage == Stage::Finished {
                continue;
            }
            let uid = &seen.pod.uid;
            match seen.injection {
                Injection::Listener if seen.stage == Stage::Running && !served.contains(uid) => {
                    if self.unserved.lasts(uid, now) >= self.grace {
                        lacks.listener.push(seen);
                    } else {
                        *is_pending = true;
                    }
                }
                Injection::Listener | Injection::Socket => {}
                Injection::Absent => self.uninjected(seen, accounts, now, &mut lacks),
            }
        }
        lacks
    }

    fn uninjected<'a>(
        &self,
        seen: &'a Seen,
        accounts: &Accounts,
        now: Instant,
        lacks: &mut Lacks<'a>,
    ) {
        if seen.wish == Wish::Declines || self.excluded.contains(&seen.pod.namespace) {
            return;
        }
        let account = Account::of(&seen.pod);
        match (accounts.says(&account), seen.wish) {
            (Some(Says::Yes), _) | (Some(Says::Nothing), Wish::Asks) => lacks.injection.push(seen),
            _ => {}
        }
        if lacks.due.is_none() && accounts.is_due(&account, now) {
            lacks.due = Some(account.clone());
        }
        lacks.accounts.insert(account);
    }
}

/// Whether both sides name IPv4 addresses, and none is on both. Of IPv6 addresses a listener's
/// namespace says nothing.
fn contradict(pods: &[IpAddr], sight: &impl Sight) -> bool {
    if !pods.iter().any(IpAddr::is_ipv4) {
        return false;
    }
    let found = sight.addresses();
    !found.is_empty() && !found.iter().any(|address| pods.contains(address))
}
