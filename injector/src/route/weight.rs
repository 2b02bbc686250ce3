//! Bounds the memory that parsed reviews take.
//!
//! Any Pod of the cluster may post a review, and a body that means harm takes a hundred times its
//! size once it is parsed: the bound on its bytes is no bound on memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::body::Unread;

/// What all reviews that are parsed at once may weigh, in bytes: a quarter of the memory that the
/// container is given.
const MOST: usize = 64 << 20;

/// What one of them may weigh, in bytes. A Pod of 50 containers with 20 variables each weighs a
/// tenth of it.
const LARGEST: usize = MOST / 4;

/// The memory of all parsed reviews. A cheap clone.
#[derive(Clone)]
pub(super) struct Weights {
    memory: Arc<Semaphore>,
}

impl Weights {
    pub(super) fn new() -> Self {
        Self {
            memory: Arc::new(Semaphore::new(MOST)),
        }
    }

    /// Waits until `body` may be parsed: hold what this returns for as long as what was parsed.
    ///
    /// # Cancel safety
    /// Takes nothing if it is dropped.
    pub(super) async fn take(
        &self,
        body: &[u8],
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, Unread> {
        let weight = weight(body);
        if weight > LARGEST {
            return Err(Unread::TooHeavy);
        }
        let weight = u32::try_from(weight).map_err(|_too_many| Unread::TooHeavy)?;
        let taking = Arc::clone(&self.memory).acquire_many_owned(weight);
        match timeout_at(deadline, taking).await {
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(_)) | Err(_) => Err(Unread::Busy),
        }
    }
}

/// The most memory, in bytes, that `body` takes once it is parsed, from one pass over it.
///
/// What stands in a string counts as well, which only makes a body heavier.
fn weight(body: &[u8]) -> usize {
    body.len() + body.iter().map(|byte| cost(*byte)).sum::<usize>()
}

/// What a byte of JSON can make `serde_json` allocate beyond a byte.
const fn cost(byte: u8) -> usize {
    match byte {
        // A map's node has room for 11 names and values.
        b'{' => 700,
        // A name's own memory and its share of a node that is half full; an array's room for its
        // first four values.
        b':' | b'[' => 160,
        // A value in an array that has just doubled, and a short string's own memory.
        b',' => 96,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    async fn take(weights: &Weights, body: &[u8]) -> Result<OwnedSemaphorePermit, Unread> {
        let deadline = Instant::now() + Duration::from_secs(4);
        weights.take(body, deadline).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_parses_into_much_more_than_its_size_is_too_heavy() {
        let weights = Weights::new();
        for part in [r#"{"":0},"#, "[0],", "0,", r#""a","#, "[],", "{},"] {
            let body = format!("[{}0]", part.repeat((4 << 20) / part.len()));
            let taken = take(&weights, body.as_bytes()).await;
            assert_eq!(taken.unwrap_err(), Unread::TooHeavy, "{part}");
        }
        let names: Vec<_> = (0..400_000).map(|name| format!("\"{name}\":0")).collect();
        let taken = take(&weights, format!("{{{}}}", names.join(",")).as_bytes()).await;
        assert_eq!(taken.unwrap_err(), Unread::TooHeavy);
    }

    #[test]
    fn a_large_pod_is_far_from_too_heavy() {
        let variable = json!({ "name": "A_NAME", "value": "postgres://user@host:5432/base" });
        let fields = json!({ ".": {}, "f:name": {}, "f:value": {} });
        let container = json!({ "name": "c", "image": "i:1", "env": vec![variable; 20] });
        let pod = json!({
            "metadata": { "managedFields": vec![fields; 1_000] },
            "spec": { "containers": vec![container; 50] },
        });
        let weight = weight(pod.to_string().as_bytes());
        assert!(weight < LARGEST / 2, "{weight}");
        // Text weighs what it takes.
        assert_eq!(super::weight(&[b'x'; 4_096]), 4_096);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_wait_for_memory_that_others_hold_but_not_for_ever() {
        let weights = Weights::new();
        let body = vec![b'x'; LARGEST];
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.push(take(&weights, &body).await.unwrap());
        }
        let started = Instant::now();
        assert_eq!(take(&weights, b"{}").await.unwrap_err(), Unread::Busy);
        assert_eq!(started.elapsed(), Duration::from_secs(4));
        let giving_back = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            taken.pop();
        };
        let (given, ()) = tokio::join!(take(&weights, b"{}"), giving_back);
        assert!(given.is_ok());
    }
}
