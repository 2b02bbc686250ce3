//! When the agent may be called ready.

use std::fmt;

type Condition = Box<dyn Fn() -> bool + Send + Sync>;

/// Named conditions that must all hold. They are asked each time, so they must answer at once.
#[derive(Default)]
pub struct Readiness(Vec<(&'static str, Condition)>);

impl Readiness {
    /// Adds a condition.
    #[must_use]
    pub fn with(
        mut self,
        name: &'static str,
        holds: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        self.0.push((name, Box::new(holds)));
        self
    }

    /// Every condition with whether it holds now, in the order they were added.
    pub fn conditions(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.0.iter().map(|(name, holds)| (*name, holds()))
    }

    /// The names of the conditions that do not hold now, in the order they were added.
    pub fn unmet(&self) -> impl Iterator<Item = &'static str> {
        let conditions = self.conditions();
        conditions.filter_map(|(name, holds)| (!holds).then_some(name))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}
