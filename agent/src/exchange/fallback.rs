//! Which identities are on GET because POST is refused to them.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Method;
use crate::workload::Identity;

/// How long an identity stays on GET before POST is tried again, give or take a tenth, so that the
/// identities of a node do not all try at once.
const POST_AGAIN_AFTER: Duration = Duration::from_hours(1);

/// More than a node has Pods. Beyond it the identity that is nearest to trying POST again is
/// forgotten, which costs one more refused call.
const CAPACITY: usize = 4096;

/// Remembers the identities that are on GET. Decides, and does no calls itself.
#[derive(Debug, Default)]
pub(super) struct Fallback {
    post_again_at: HashMap<Identity, Instant>,
}

impl Fallback {
    /// Chooses the method of the next exchange.
    ///
    /// When POST is due again, one exchange tries it and the next stays on GET: a POST that hangs
    /// or fails must not keep the identity from the GET that works.
    pub(super) fn choose(&mut self, identity: &Identity, now: Instant) -> Method {
        // Keys of GET live 15 minutes: who has not asked for this long has gone from the node.
        self.post_again_at
            .retain(|_, at| now.saturating_duration_since(*at) < POST_AGAIN_AFTER);
        let Some(at) = self.post_again_at.get_mut(identity) else {
            return Method::Post;
        };
        if now < *at {
            return Method::Get;
        }
        *at = post_again_at(now);
        Method::Post
    }

    /// Notes that POST is refused to `identity` and GET is not. True when this is news.
    pub(super) fn remember(&mut self, identity: &Identity, now: Instant) -> bool {
        if self.post_again_at.contains_key(identity) {
            return false;
        }
        if self.post_again_at.len() >= CAPACITY {
            let nearest = self.post_again_at.iter().min_by_key(|(_, at)| **at);
            if let Some(nearest) = nearest.map(|(identity, _)| identity.clone()) {
                self.post_again_at.remove(&nearest);
            }
        }
        self.post_again_at
            .insert(identity.clone(), post_again_at(now));
        true
    }

    /// When POST is due again for `identity`; `None` for one that is not on GET.
    pub(super) fn until(&self, identity: &Identity) -> Option<Instant> {
        self.post_again_at.get(identity).copied()
    }

    /// Goes on as another agent has begun. POST is due no later than if it had begun just now: that
    /// agent's clock may have been wrong.
    pub(super) fn restore(&mut self, identity: &Identity, until: Instant, now: Instant) {
        if self.remember(identity, now)
            && let Some(at) = self.post_again_at.get_mut(identity)
        {
            *at = until.min(*at);
        }
    }

    /// Lets `identity` start with POST next time. True when it was on GET.
    pub(super) fn forget(&mut self, identity: &Identity) -> bool {
        self.post_again_at.remove(identity).is_some()
    }

    /// Makes POST due at `at` for an identity that is on GET.
    #[cfg(test)]
    pub(super) fn make_due(&mut self, identity: &Identity, at: Instant) {
        *self.post_again_at.get_mut(identity).unwrap() = at;
    }

    /// How many identities are on GET, as a gauge takes it.
    pub(super) fn count(&self) -> i64 {
        i64::try_from(self.post_again_at.len()).unwrap_or(i64::MAX)
    }
}

fn post_again_at(now: Instant) -> Instant {
    now + POST_AGAIN_AFTER.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn identity(n: usize) -> Identity {
        Identity::new("iss", &format!("sub{n}"), "aud")
    }

    #[test]
    fn an_identity_stays_on_get_and_tries_post_once_an_hour() {
        let (mut fallback, start) = (Fallback::default(), Instant::now());
        assert_eq!(fallback.choose(&identity(0), start), Method::Post);
        assert!(fallback.remember(&identity(0), start));
        assert!(!fallback.remember(&identity(0), start), "known already");
        assert_eq!(fallback.choose(&identity(1), start), Method::Post);

        let methods: Vec<_> = (0..11)
            .map(|n| fallback.choose(&identity(0), start + MINUTE * 15 * n))
            .collect();
        let posts = methods.iter().filter(|m| **m == Method::Post).count();
        assert_eq!(posts, 2, "in 150 minutes: {methods:?}");
        assert_eq!(methods[..4], [Method::Get; 4], "not before 54 minutes");
        assert!(methods[4..6].contains(&Method::Post), "within 66 minutes");
        assert_eq!(fallback.count(), 1);
    }

    #[test]
    fn a_forgotten_identity_starts_with_post() {
        let (mut fallback, now) = (Fallback::default(), Instant::now());
        fallback.remember(&identity(0), now);
        assert!(fallback.forget(&identity(0)));
        assert!(!fallback.forget(&identity(0)));
        assert_eq!(fallback.choose(&identity(0), now), Method::Post);
    }

    #[test]
    fn what_another_agent_has_begun_goes_on_and_never_longer_than_if_it_began_now() {
        let (mut before, start) = (Fallback::default(), Instant::now());
        before.remember(&identity(0), start);
        let until = before.until(&identity(0)).unwrap();
        assert_eq!(before.until(&identity(1)), None);
        let mut after = Fallback::default();
        let later = start + MINUTE * 30;
        after.restore(&identity(0), until, later);
        after.restore(&identity(1), start + MINUTE * 10_000, later);
        assert_eq!(after.until(&identity(0)), Some(until));
        assert_eq!(after.choose(&identity(1), later + MINUTE * 53), Method::Get);
        assert_eq!(
            after.choose(&identity(1), later + MINUTE * 67),
            Method::Post
        );
        // What this agent knows itself counts.
        after.restore(&identity(0), later + MINUTE * 50, later);
        assert_eq!(after.until(&identity(0)), Some(until));
    }

    #[test]
    fn an_identity_that_has_left_the_node_is_not_counted_for_ever() {
        let (mut fallback, start) = (Fallback::default(), Instant::now());
        fallback.remember(&identity(0), start);
        fallback.choose(&identity(1), start + MINUTE * 60);
        assert_eq!(fallback.count(), 1);
        fallback.choose(&identity(1), start + MINUTE * 127);
        assert_eq!(fallback.count(), 0);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut fallback, now) = (Fallback::default(), Instant::now());
        for n in 0..CAPACITY + 10 {
            fallback.remember(&identity(n), now);
        }
        assert_eq!(fallback.count(), i64::try_from(CAPACITY).unwrap());
        let last = identity(CAPACITY + 9);
        assert_eq!(fallback.choose(&last, now), Method::Get);
    }
}
