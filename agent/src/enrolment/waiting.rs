//! Connections that have not sent their message, so that silent ones lock nobody out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// Connections without a message yet, oldest first.
pub(super) struct Waiting {
    max: usize,
    places: VecDeque<Arc<Place>>,
}

/// One connection's place among them.
#[derive(Debug, Default)]
pub(super) struct Place {
    left: AtomicBool,
    evicted: CancellationToken,
}

impl Waiting {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            places: VecDeque::with_capacity(max),
        }
    }

    /// Makes a place for one more; the oldest loses its own if there are too many.
    pub(super) fn enter(&mut self) -> Arc<Place> {
        if self.places.len() >= self.max {
            self.places
                .retain(|place| !place.left.load(Ordering::Relaxed));
        }
        if self.places.len() >= self.max
            && let Some(oldest) = self.places.pop_front()
        {
            oldest.evicted.cancel();
        }
        let place = Arc::new(Place::default());
        self.places.push_back(Arc::clone(&place));
        place
    }
}

impl Place {
    /// Gives the place up: the message is there, or the connection has ended.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Returns when the place is taken away.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_loses_its_place_when_all_are_taken() {
        let mut waiting = Waiting::new(2);
        let places = [waiting.enter(), waiting.enter(), waiting.enter()];
        let evicted = places.map(|place| place.evicted.is_cancelled());
        assert_eq!(evicted, [true, false, false]);
    }

    #[test]
    fn nobody_is_evicted_while_a_place_has_been_left() {
        let mut waiting = Waiting::new(2);
        let (first, second) = (waiting.enter(), waiting.enter());
        second.leave();
        let third = waiting.enter();
        for place in [first, third] {
            assert!(!place.evicted.is_cancelled());
        }
    }
}
