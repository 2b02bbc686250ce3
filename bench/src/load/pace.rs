//! When each request is due, and on which connection.

use std::time::Duration;

/// A constant rate over a number of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    rate: u32,
    connections: usize,
}

impl Pace {
    /// `rate` requests a second in all.
    pub(super) fn new(rate: u32, connections: usize) -> Self {
        Self { rate, connections }
    }

    /// How many are due within `time`.
    pub(super) fn count(self, time: Duration) -> u64 {
        let count = u128::from(self.rate) * time.as_nanos() / 1_000_000_000;
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// When request `number` is due after the start.
    pub(super) fn due(self, number: u64) -> Duration {
        Duration::from_nanos(number.saturating_mul(1_000_000_000) / u64::from(self.rate.max(1)))
    }

    /// The connection that takes it: one after the other.
    pub(super) fn connection(self, number: u64) -> usize {
        let connections = u64::try_from(self.connections).unwrap_or(u64::MAX);
        let turn = number.checked_rem(connections).unwrap_or_default();
        usize::try_from(turn).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_of_a_second_is_due_within_it_and_connections_take_turns() {
        let pace = Pace::new(1_000, 3);
        let second = Duration::from_secs(1);
        assert_eq!(pace.count(second), 1_000);
        assert!(pace.due(999) < second && pace.due(1_000) == second);
        let connections: Vec<_> = (0..4).map(|number| pace.connection(number)).collect();
        assert_eq!(connections, [0, 1, 2, 0]);
    }
}
