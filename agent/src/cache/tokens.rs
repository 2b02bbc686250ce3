//! The service account tokens of one identity's live Pods.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::workload::{PodUid, Workload};

/// The newest token of each Pod, and which of them the issuer refused.
#[derive(Debug)]
pub(super) struct Tokens {
    of_pod: HashMap<PodUid, Slot>,
    max_pods: usize,
    refusal_memory: Duration,
}

#[derive(Debug)]
struct Slot {
    workload: Arc<Workload>,
    refusal: Option<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    at: Instant,
    message: String,
}

/// Which token to exchange.
#[derive(Debug)]
pub(super) enum Choice {
    /// This one.
    Token(Arc<Workload>),
    /// All valid ones were refused a moment ago; one may be tried again then.
    Later(Instant),
    /// No valid one is known.
    Nothing,
}

impl Tokens {
    pub(super) fn new(max_pods: usize, refusal_memory: Duration) -> Self {
        Self {
            of_pod: HashMap::new(),
            max_pods,
            refusal_memory,
        }
    }

    /// Remembers the token that `workload` came with, and says whether it is news.
    ///
    /// An older token of a Pod never takes a newer one's place. When there is no room, the token
    /// that ends first makes way.
    pub(super) fn remember(&mut self, workload: &Arc<Workload>) -> bool {
        if let Some(known) = self.of_pod.get(&workload.pod.uid) {
            let known = &known.workload;
            let is_old = Arc::ptr_eq(known, workload)
                || known.token_expires_at > workload.token_expires_at
                || known.token.expose() == workload.token.expose();
            if is_old {
                return false;
            }
        } else if self.of_pod.len() >= self.max_pods {
            let first = self
                .of_pod
                .values()
                .min_by_key(|s| s.workload.token_expires_at);
            match first.map(|slot| &slot.workload) {
                Some(first) if first.token_expires_at < workload.token_expires_at => {
                    let uid = first.pod.uid.clone();
                    self.of_pod.remove(&uid);
                }
                _ => return false,
            }
        }
        let slot = Slot {
            workload: Arc::clone(workload),
            refusal: None,
        };
        self.of_pod.insert(workload.pod.uid.clone(), slot);
        true
    }

    /// Forgets a Pod, and says whether it was known.
    pub(super) fn forget(&mut self, pod: &PodUid) -> bool {
        self.of_pod.remove(pod).is_some()
    }

    /// Forgets tokens that have ended.
    pub(super) fn drop_expired(&mut self, wall: Timestamp) {
        self.of_pod
            .retain(|_, slot| slot.workload.token_expires_at > wall);
    }

    /// The token of every Pod.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.of_pod.values().map(|slot| &slot.workload)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of_pod.is_empty()
    }

    /// How many Pods have a token that has not ended.
    pub(super) fn count(&self, wall: Timestamp) -> usize {
        let slots = self.of_pod.values();
        slots
            .filter(|slot| slot.workload.token_expires_at > wall)
            .count()
    }

    /// When the last token ends.
    pub(super) fn last_expiry(&self) -> Option<Timestamp> {
        self.of_pod
            .values()
            .map(|s| s.workload.token_expires_at)
            .max()
    }

    /// Notes that the issuer refused this very token.
    pub(super) fn refuse(&mut self, workload: &Workload, now: Instant, message: String) {
        if let Some(slot) = self.of_pod.get_mut(&workload.pod.uid)
            && slot.workload.token.expose() == workload.token.expose()
        {
            slot.refusal = Some(Refusal { at: now, message });
        }
    }

    /// What the issuer said of the Pod's token, as long as that is remembered.
    pub(super) fn refusal(&self, pod: &PodUid, now: Instant) -> Option<&str> {
        let refusal = self.of_pod.get(pod)?.refusal.as_ref()?;
        (now < refusal.at + self.refusal_memory).then_some(refusal.message.as_str())
    }

    /// How many tokens stand refused.
    pub(super) fn refused(&self, now: Instant) -> usize {
        self.of_pod
            .keys()
            .filter(|pod| self.refusal(pod, now).is_some())
            .count()
    }

    /// Picks the latest-ending token that was never refused; if there is none, the one whose
    /// refusal is longest ago.
    pub(super) fn choose(&self, now: Instant, wall: Timestamp) -> Choice {
        let valid = self
            .of_pod
            .values()
            .filter(|s| s.workload.token_expires_at > wall);
        let best = valid.min_by_key(|slot| {
            let refused_at = slot.refusal.as_ref().map(|refusal| refusal.at);
            (
                refused_at,
                std::cmp::Reverse(slot.workload.token_expires_at),
            )
        });
        let Some(best) = best else {
            return Choice::Nothing;
        };
        match &best.refusal {
            Some(refusal) if now < refusal.at + self.refusal_memory => {
                Choice::Later(refusal.at + self.refusal_memory)
            }
            _ => Choice::Token(Arc::clone(&best.workload)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::script::workload;

    const MEMORY: Duration = Duration::from_secs(5);

    fn chosen(tokens: &Tokens, now: Instant) -> String {
        match tokens.choose(now, Timestamp::UNIX_EPOCH) {
            Choice::Token(workload) => workload.token.expose().to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_newest_token_is_chosen_and_an_older_one_never_takes_its_place() {
        let mut tokens = Tokens::new(4, MEMORY);
        assert!(tokens.remember(&workload(
            "sa",
            "a",
            "old",
            Timestamp::from_second(100).unwrap()
        )));
        assert!(tokens.remember(&workload(
            "sa",
            "a",
            "new",
            Timestamp::from_second(200).unwrap()
        )));
        assert!(!tokens.remember(&workload(
            "sa",
            "a",
            "old",
            Timestamp::from_second(100).unwrap()
        )));
        assert!(tokens.remember(&workload(
            "sa",
            "b",
            "mid",
            Timestamp::from_second(150).unwrap()
        )));
        assert_eq!(chosen(&tokens, Instant::now()), "new");
        assert!(tokens.forget(&PodUid::new("a")));
        assert_eq!(chosen(&tokens, Instant::now()), "mid");
    }

    #[test]
    fn a_full_memory_drops_the_token_that_ends_first() {
        let mut tokens = Tokens::new(2, MEMORY);
        for (pod, ends) in [("a", 300), ("b", 100), ("c", 200)] {
            tokens.remember(&workload(
                "sa",
                pod,
                pod,
                Timestamp::from_second(ends).unwrap(),
            ));
        }
        assert!(!tokens.forget(&PodUid::new("b")));
        assert!(tokens.forget(&PodUid::new("a")) && tokens.forget(&PodUid::new("c")));
    }

    #[test]
    fn a_refused_token_makes_way_for_another_pods_and_comes_back_last() {
        let now = Instant::now();
        let mut tokens = Tokens::new(2, MEMORY);
        let (a, b) = (
            workload("sa", "a", "a", Timestamp::from_second(200).unwrap()),
            workload("sa", "b", "b", Timestamp::from_second(100).unwrap()),
        );
        tokens.remember(&a);
        tokens.remember(&b);
        tokens.refuse(&a, now, "no".to_owned());
        assert_eq!(chosen(&tokens, now), "b");
        assert_eq!(tokens.refusal(&a.pod.uid, now), Some("no"));
        assert_eq!(tokens.refusal(&a.pod.uid, now + MEMORY), None);
        tokens.refuse(&b, now + MEMORY / 2, "no".to_owned());
        assert!(matches!(
            tokens.choose(now + MEMORY / 2, Timestamp::UNIX_EPOCH),
            Choice::Later(at) if at == now + MEMORY
        ));
        assert_eq!(chosen(&tokens, now + MEMORY * 2), "a");
    }
}
