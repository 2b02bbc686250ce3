//! The renewals of a node that wait for their turn, the key that ends first in front.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Keys that end sooner, or have ended, are all taken for as urgent: where an outage was longer than
/// they live, their nodes must not ask all the time. A request that waits for one does not wait here.
const SOON: Duration = Duration::from_mins(2);

/// A place in a [`Line`]: when the key that is to be renewed ends, and what tells it from others that end then.
pub(super) type Place = (Instant, u64);

/// Who waits. Whoever has joined must leave.
#[derive(Debug, Default)]
pub(super) struct Line {
    places: BTreeMap<Place, Arc<Notify>>,
    joined: u64,
}

impl Line {
    /// Takes in the renewal of a key that ends then, and says how it will be told to look again.
    pub(super) fn join(&mut self, ends_at: Instant) -> (Place, Arc<Notify>) {
        self.joined += 1;
        let (place, called) = ((ends_at, self.joined), Arc::new(Notify::new()));
        self.places.insert(place, Arc::clone(&called));
        (place, called)
    }

    /// Lets one go, and calls whoever is in front now because of that.
    pub(super) fn leave(&mut self, place: Place) {
        let was_first = self.is_first(place);
        self.places.remove(&place);
        if was_first && let Some((_, next)) = self.places.first_key_value() {
            next.notify_one();
        }
    }

    /// Calls everybody.
    pub(super) fn call_all(&self) {
        for called in self.places.values() {
            called.notify_one();
        }
    }

    /// Whether it is in front.
    pub(super) fn is_first(&self, place: Place) -> bool {
        let first = self.places.first_key_value();
        first.is_some_and(|(first, _)| *first == place)
    }

    /// The longest pause between two exchanges with which every key here is renewed within `window`, and
    /// before it has used `part` of what it has left now; [`None`] when nobody waits.
    pub(super) fn longest_pause(
        &self,
        window: Duration,
        part: f64,
        now: Instant,
    ) -> Option<Duration> {
        let pauses = (1_u32..)
            .zip(self.places.keys())
            .map(|(turn, (ends_at, _))| {
                let left = ends_at.saturating_duration_since(now).max(SOON);
                window.min(left.mul_f64(part)) / turn
            });
        pauses.min()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// Whether somebody was called, and is not any more.
    fn is_called(called: &Notify) -> bool {
        called.notified().now_or_never().is_some()
    }

    #[test]
    fn the_key_that_ends_first_is_in_front_whoever_came_first() {
        let (now, mut line) = (Instant::now(), Line::default());
        let (late, late_called) = line.join(now + 9 * MINUTE);
        let (soon, _) = line.join(now + MINUTE);
        let (same, same_called) = line.join(now + MINUTE);
        assert!(line.is_first(soon) && !line.is_first(late) && !line.is_first(same));
        line.leave(soon);
        assert!(line.is_first(same));
        assert!(is_called(&same_called) && !is_called(&late_called));
        line.leave(late);
        assert!(!is_called(&same_called), "it was in front already");
        line.call_all();
        assert!(is_called(&same_called) && !is_called(&late_called));
    }

    #[test]
    fn the_pause_is_that_of_the_key_that_allows_the_shortest() {
        let (now, mut line) = (Instant::now(), Line::default());
        let longest = |line: &Line, now| line.longest_pause(90 * MINUTE, 0.5, now);
        assert_eq!(longest(&line, now), None);
        line.join(now + 200 * MINUTE);
        assert_eq!(longest(&line, now), Some(90 * MINUTE));
        assert_eq!(longest(&line, now + 40 * MINUTE), Some(80 * MINUTE));
        // Two turns within half of 100 minutes.
        line.join(now + 100 * MINUTE);
        assert_eq!(longest(&line, now), Some(45 * MINUTE));
        line.join(now + 4 * MINUTE);
        assert_eq!(longest(&line, now), Some(2 * MINUTE));
        for minutes in [3, 5, 400] {
            let now = now + minutes * MINUTE;
            assert!(longest(&line, now).unwrap() >= SOON / 6);
        }
    }
}
