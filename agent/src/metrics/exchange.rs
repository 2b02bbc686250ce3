//! The one family with two labels.

use prometheus::IntCounterVec;
use shared::metrics::{Factory, Label as _};

use super::labels::{ExchangeOutcome, Method};

/// Counters by exchange method and outcome.
#[derive(Clone, Debug)]
pub struct ExchangeCounters(IntCounterVec);

impl ExchangeCounters {
    pub(super) fn new(
        make: &Factory<'_>,
        name: &str,
        help: &str,
    ) -> Result<Self, prometheus::Error> {
        let labels = [Method::NAME, ExchangeOutcome::NAME];
        let counters = make.register(IntCounterVec::new(make.opts(name, help), &labels)?)?;
        for method in Method::ALL {
            for outcome in ExchangeOutcome::ALL {
                counters.with_label_values(&[method.text(), outcome.text()]);
            }
        }
        Ok(Self(counters))
    }

    /// The counter of one method and outcome.
    pub fn of(&self, method: Method, outcome: ExchangeOutcome) -> prometheus::IntCounter {
        self.0.with_label_values(&[method.text(), outcome.text()])
    }
}
