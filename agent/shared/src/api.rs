//! The cluster's API: how long its calls may take, and its errors in words that hold no object.

mod watch;

use std::time::Duration;

use kube::runtime::watcher;
use tokio::time::timeout;

pub use self::watch::watched;
use crate::causes::causes;

/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits 10 s for a write: without an end, an API server that vanishes with its node would hold up
/// its writer for as long as the kernel keeps the connection.
///
/// # Errors
/// Those of the write, and [`kube::Error::Service`] once the time is over. The write may have
/// happened then.
pub async fn written<T>(write: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    within(WRITE_TIMEOUT, write).await
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> kube::Result<T> {
    timeout(limit, call)
        .await
        .unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into())))
}

/// What went wrong, with the API server's own words where it has said some.
pub fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} (HTTP {})", status.message, status.code),
        error => causes(error),
    }
}

/// What went wrong in a watch.
pub fn watch_reason(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => reason(error),
        watcher::Error::WatchError(status) => format!("{} (HTTP {})", status.message, status.code),
        error @ watcher::Error::NoResourceVersion => causes(error),
    }
}

/// Whether the API server has refused a patch because the object is not as it was read.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether the API server itself has said no; not so when the question or its answer got lost.
pub const fn is_answer(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(_))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_not_answered_ends_after_ten_seconds() {
        let started = Instant::now();
        let error = written(std::future::pending::<kube::Result<()>>()).await;
        assert_eq!(started.elapsed(), Duration::from_secs(10));
        let reason = reason(&error.unwrap_err());
        assert!(reason.contains("deadline has elapsed"), "{reason}");
        written(std::future::ready(Ok(()))).await.unwrap();
    }
}
