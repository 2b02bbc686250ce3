//! The node's budget of retries.

use std::time::Duration;

use tokio::time::Instant;

use super::urgency::Urgency;

/// A token bucket. The lower half of it is for held requests alone, so that after an outage they
/// go before renewals.
#[derive(Debug)]
pub(super) struct Budget {
    level: f64,
    burst: f64,
    per_second: f64,
    filled: Instant,
}

impl Budget {
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self {
            level: burst.into(),
            burst: burst.into(),
            per_second: per_second.into(),
            filled: now,
        }
    }

    /// How many retries there are.
    pub(super) fn left(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        (self.level + elapsed * self.per_second).min(self.burst)
    }

    /// Goes on with as many retries as another agent had left.
    pub(super) fn restore(&mut self, left: f64, now: Instant) {
        self.level = left.clamp(0.0, self.burst);
        self.filled = now;
    }

    /// Spends one retry.
    ///
    /// # Errors
    /// When there is none to spend: the time from which there may be one.
    pub(super) fn spend(&mut self, urgency: Urgency, now: Instant) -> Result<(), Instant> {
        self.level = self.left(now);
        self.filled = now;
        let needed = match urgency {
            Urgency::Held => 1.0,
            Urgency::Background => 1.0_f64.max(self.burst / 2.0),
        };
        let missing = needed - self.level;
        // Timers are exact to a millisecond; less than its share of a retry is no reason to wait.
        if missing > self.per_second / 2000.0 {
            let wait = Duration::try_from_secs_f64(missing / self.per_second);
            return Err(now + wait.unwrap_or(Duration::from_mins(1)));
        }
        self.level -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_run_rate_and_the_burst_hold() {
        let start = Instant::now();
        let mut budget = Budget::new(8, 4, start);
        let spent = |budget: &mut Budget, at| {
            (0..100)
                .filter(|_| budget.spend(Urgency::Held, at).is_ok())
                .count()
        };
        assert_eq!(spent(&mut budget, start), 8);
        assert_eq!(spent(&mut budget, start + Duration::from_secs(1)), 4);
        assert_eq!(spent(&mut budget, start + Duration::from_secs(100)), 8);
    }

    #[test]
    fn renewals_leave_half_the_budget_to_held_requests() {
        let start = Instant::now();
        let mut budget = Budget::new(8, 4, start);
        let renewals = (0..100).filter(|_| budget.spend(Urgency::Background, start).is_ok());
        assert_eq!(renewals.count(), 5);
        let later = budget.spend(Urgency::Background, start).unwrap_err();
        assert_eq!(later, start + Duration::from_millis(250));
        assert_eq!(budget.spend(Urgency::Held, start), Ok(()));
    }
}
