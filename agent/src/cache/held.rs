//! Credentials in memory, and until when they are good.

use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use tokio::time::Instant;

use super::clocks::Clocks;
use crate::credentials::Credentials;

/// Less than this left at receipt is as good as expired: the caller could sign nothing with it.
const LEAST_LIFE: Duration = Duration::from_secs(5);

/// Credentials with two ends of life: by the wall clock, so that a clock set forth is honoured,
/// and by the monotonic clock from receipt, so that a clock that is behind, or set back, keeps no
/// dead key alive.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) credentials: Credentials,
    deadline: Instant,
    renew_at: Instant,
}

impl Held {
    /// Takes credentials that arrived now.
    ///
    /// They are due for renewal at half life ± 10 %, but early enough to leave `min_remaining`
    /// where the lifetime is at least half as long again.
    ///
    /// # Errors
    /// A message that names both clocks when too little life is left to be of use.
    pub(super) fn receive(
        credentials: Credentials,
        now: Instant,
        wall: Timestamp,
        min_remaining: Duration,
        rng: &mut Rng,
    ) -> Result<Self, String> {
        let mut life = remaining(credentials.expires_at(), wall);
        if life < LEAST_LIFE {
            return Err(format!(
                "the credentials that the issuer minted expire at {} by its clock, but it is {wall} \
                 by this node's clock: compare the two",
                credentials.expires_at(),
            ));
        }
        // A wall clock that is behind would keep them beyond their end. An issuer that says it minted
        // dead keys is not believed.
        if let Some(minted) = credentials.life().filter(|life| *life >= LEAST_LIFE) {
            life = life.min(minted);
        }
        let mut renew_after = life.mul_f64(0.45 + 0.1 * rng.f64());
        if life >= min_remaining + min_remaining / 2 {
            renew_after = renew_after.min(life.saturating_sub(min_remaining));
        }
        Ok(Self {
            credentials,
            deadline: now + life,
            renew_at: now + renew_after,
        })
    }

    /// Takes credentials over from another agent, which had them until `ends_at` and was to renew
    /// them at `renew_at`; `None` when too little life is left to be of use.
    pub(super) fn restore(
        credentials: Credentials,
        (ends_at, renew_at): (Timestamp, Timestamp),
        clocks: Clocks,
    ) -> Option<Self> {
        let life = remaining(ends_at.min(credentials.expires_at()), clocks.wall);
        let deadline = clocks.now + life;
        (life >= LEAST_LIFE).then(|| Self {
            credentials,
            deadline,
            renew_at: clocks.instant_at(renew_at).min(deadline),
        })
    }

    /// Whether either clock says that the credentials have ended.
    pub(super) fn is_expired(&self, now: Instant, wall: Timestamp) -> bool {
        self.remaining(now, wall).is_zero()
    }

    /// How much life is left, by the clock that leaves less.
    pub(super) fn remaining(&self, now: Instant, wall: Timestamp) -> Duration {
        remaining(self.credentials.expires_at(), wall)
            .min(self.deadline.saturating_duration_since(now))
    }

    /// When the monotonic clock ends the credentials.
    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When the first renewal is to be tried, by the monotonic clock.
    pub(super) const fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// Whether a renewal is due by either clock: it is when less life is left than there is to be
    /// at [`renew_at`](Self::renew_at).
    pub(super) fn is_due(&self, now: Instant, wall: Timestamp) -> bool {
        let kept = self.deadline.saturating_duration_since(self.renew_at);
        self.remaining(now, wall) <= kept
    }

    /// Takes `newer` in its place if that lives longer. If not (a renewal fell back to short-lived
    /// keys), the longer life stays and the next renewal comes when `newer` would have had it.
    pub(super) fn replace(&mut self, newer: Self, now: Instant, wall: Timestamp) {
        if newer.remaining(now, wall) > self.remaining(now, wall) {
            *self = newer;
        } else {
            // By the clock that leaves less from now on: a renewal must not stay due.
            self.deadline = now + self.remaining(now, wall);
            self.renew_at = newer.renew_at;
        }
    }
}

/// The time from `wall` to `end`, zero when that has passed.
pub(super) fn remaining(end: Timestamp, wall: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(wall)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use secrecy::SecretString;

    use super::*;

    const WALL: Timestamp = Timestamp::UNIX_EPOCH;

    fn lasting(life: Duration) -> Credentials {
        let secret = SecretString::from("secret");
        let expires_at = WALL + SignedDuration::try_from(life).unwrap();
        Credentials::new("CWID".to_owned(), &secret, &secret, expires_at)
    }

    fn receive(life: Duration, seed: u64) -> Result<(Instant, Held), String> {
        let now = Instant::now();
        let min_remaining = Duration::from_mins(20);
        let rng = &mut Rng::with_seed(seed);
        Held::receive(lasting(life), now, WALL, min_remaining, rng).map(|held| (now, held))
    }

    #[test]
    fn renewal_is_due_at_half_life_within_ten_percent_and_leaves_the_floor() {
        for seed in 0..200 {
            for (life, earliest, latest) in [
                (360 * 60, 162 * 60, 198 * 60),
                (15 * 60, 405, 495),
                (30 * 60, 10 * 60, 10 * 60),
                (40 * 60, 18 * 60, 20 * 60),
            ] {
                let (now, held) = receive(Duration::from_secs(life), seed).unwrap();
                let due = held.renew_at().duration_since(now).as_secs();
                assert!((earliest..=latest).contains(&due), "{life} s: {due} s");
            }
        }
    }

    #[test]
    fn either_clock_ends_the_credentials() {
        let (now, held) = receive(Duration::from_hours(1), 0).unwrap();
        let hour = Duration::from_hours(1);
        assert!(!held.is_expired(now, WALL));
        assert!(
            held.is_expired(now, WALL + hour),
            "the wall clock was set forth"
        );
        assert!(
            held.is_expired(now + hour, WALL),
            "the wall clock was set back"
        );
    }

    #[test]
    fn a_node_whose_clock_is_behind_keeps_no_key_longer_than_its_issuer_says() {
        let now = Instant::now();
        let life = Duration::from_mins(15);
        let hour = SignedDuration::from_hours(1);
        let receive = |minted_at| {
            let key = lasting(life).minted_at(Some(minted_at));
            let rng = &mut Rng::with_seed(0);
            Held::receive(key, now, WALL - hour, Duration::from_mins(20), rng).unwrap()
        };
        let held = receive(WALL);
        assert_eq!(held.deadline(), now + life);
        assert!(held.renew_at() < now + life.mul_f64(0.55));
        // An issuer whose own clock makes no sense.
        let held = receive(WALL + hour);
        assert_eq!(held.deadline(), now + life + Duration::from_hours(1));
    }

    #[test]
    fn credentials_that_arrive_expired_are_refused_with_both_clocks_in_the_message() {
        let message = receive(Duration::from_secs(4), 0).unwrap_err();
        assert!(message.contains("1970-01-01T00:00:04Z"), "{message}");
        assert!(message.contains("1970-01-01T00:00:00Z"), "{message}");
    }

    #[test]
    fn a_shorter_life_never_replaces_a_longer_one() {
        let (now, mut held) = receive(Duration::from_hours(1), 0).unwrap();
        let (_, shorter) = receive(Duration::from_mins(15), 0).unwrap();
        let (deadline, next) = (held.deadline(), shorter.renew_at());
        held.replace(shorter, now, WALL);
        assert_eq!((held.deadline(), held.renew_at()), (deadline, next));
    }
    #[test]
    fn a_renewal_is_due_by_the_clock_that_leaves_less() {
        let (now, held) = receive(Duration::from_hours(6), 0).unwrap();
        let half = held.renew_at().duration_since(now);
        assert!(!held.is_due(now, WALL));
        assert!(held.is_due(held.renew_at(), WALL));
        assert!(
            held.is_due(now, WALL + half),
            "the wall clock was set forth"
        );
        let back = SignedDuration::from_hours(-1);
        assert!(
            !held.is_due(now, WALL + back),
            "the wall clock was set back"
        );
    }

    #[test]
    fn a_shorter_life_makes_no_renewal_due_at_once_when_the_clock_was_set_forth() {
        let (now, mut held) = receive(Duration::from_hours(6), 0).unwrap();
        let wall = WALL + Duration::from_hours(2);
        let newer = lasting(Duration::from_mins(135));
        let rng = &mut Rng::with_seed(0);
        let newer = Held::receive(newer, now, wall, Duration::from_mins(20), rng).unwrap();
        let next = newer.renew_at();
        held.replace(newer, now, wall);
        assert!(!held.is_due(now, wall));
        assert!(held.is_due(next, wall));
    }

    #[test]
    fn a_key_of_a_node_whose_clock_was_set_forth_is_replaced_by_a_fresher_one() {
        let (now, mut held) = receive(Duration::from_hours(6), 0).unwrap();
        // Five hours on by the wall clock, none by the other: 1 h is left, and the new key has 2 h.
        let wall = WALL + Duration::from_hours(5);
        let newer = lasting(Duration::from_hours(7));
        let rng = &mut Rng::with_seed(0);
        let newer = Held::receive(newer, now, wall, Duration::from_mins(20), rng).unwrap();
        held.replace(newer, now, wall);
        assert_eq!(held.remaining(now, wall), Duration::from_hours(2));
    }
}
