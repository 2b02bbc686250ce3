//! Tasks that the process must not go on without.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinSet};

/// Named tasks. Those that still run are aborted when this is dropped.
#[derive(Debug, Default)]
pub struct Parts {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    /// Starts a part. `name` is what an operator reads when it ends.
    pub fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(part);
        self.names.insert(task.id(), name);
    }

    /// Waits until a part ends, and says which and how; waits for ever where there is none.
    ///
    /// # Cancel safety
    /// Safe: a part that has ended is reported by the next call.
    pub async fn ended(&mut self) -> anyhow::Error {
        let (id, how) = match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, ()))) => (id, "has ended by itself"),
            Some(Err(error)) => (error.id(), "has panicked"),
        };
        let name = self.names.get(&id).copied().unwrap_or("a part");
        anyhow::anyhow!("{name} {how}")
    }

    /// Waits until all parts have ended, however they do.
    pub async fn all_ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_part_that_ends_is_named_whether_it_returns_or_panics() {
        let mut parts = Parts::default();
        parts.spawn("the first", std::future::pending());
        parts.spawn("the second", async {});
        assert_eq!(
            parts.ended().await.to_string(),
            "the second has ended by itself"
        );
        parts.spawn("the third", async { panic!("on purpose") });
        assert_eq!(parts.ended().await.to_string(), "the third has panicked");
    }
}
