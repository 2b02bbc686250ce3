//! Serves HTTP/1 on a listener that hostile clients reach: bounded in connections, bytes and time.
//!
//! [`serve`] owns one listener and its connections. It never refuses a connection and never ends
//! because of one: at a limit, clients wait in the listener's backlog. It reads no request body: that
//! is for the service, which bounds it.

mod accept;
mod connection;
mod eager;
mod progress;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use accept::{Accept, Readable};
use connection::Connection;
pub use eager::Eager;

use crate::throttled;

/// How long a listener rests after a failed `accept`; most failures (`EMFILE`) last.
const REST_AFTER_ERROR: Duration = Duration::from_millis(100);

/// What one listener's clients may hold, and for how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of the listener.
    pub per_listener: usize,
    /// From connecting to the first complete request head, and from the first byte of a later
    /// head to its end.
    pub head_timeout: Duration,
    /// From a response to the next request's first byte. Some SDKs keep connections for 60 s.
    pub idle_timeout: Duration,
    /// The same while more than half of the listener's or of all connections are taken: so
    /// clients that only hold connections lock nobody out for longer than this.
    pub crowded_idle_timeout: Duration,
    /// The same once a drain has begun, for a first request too: long enough for a client that is
    /// just sending, short enough for whoever waits for the end.
    pub drain_idle_timeout: Duration,
    /// From the moment a client stops reading to the end of what is being sent to it.
    pub write_timeout: Duration,
    /// Bytes of a request head; more are answered with 431. At least 8 KiB.
    pub max_head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_listener: 256,
            head_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            crowded_idle_timeout: Duration::from_secs(5),
            drain_idle_timeout: Duration::from_secs(1),
            write_timeout: Duration::from_secs(10),
            max_head_bytes: 32 * 1024,
        }
    }
}

/// What is counted while serving.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Open connections.
    pub connections: IntGauge,
    /// Pauses because a listener's own limit was reached.
    pub listener_pauses: IntCounter,
    /// Pauses because the limit of all listeners was reached.
    pub total_pauses: IntCounter,
    /// Failed `accept` calls.
    pub accept_errors: IntCounter,
    /// Log lines held back.
    pub suppressed_log_lines: IntCounter,
}

impl Counters {
    /// For a server beside the one that is counted: its connections and pauses count nowhere, its
    /// failures do.
    ///
    /// # Errors
    /// Never, in fact: only the names of metrics could be wrong.
    pub fn beside(&self) -> Result<Self, prometheus::Error> {
        let unseen = || IntCounter::new("unseen", "Not registered.");
        Ok(Self {
            connections: IntGauge::new("unseen", "Not registered.")?,
            listener_pauses: unseen()?,
            total_pauses: unseen()?,
            ..self.clone()
        })
    }
}

/// The connections that all listeners share. A cheap clone.
///
/// A listener at the shared limit holds one accepted connection more, which waits unread: the
/// process needs `max` descriptors and one for each listener.
#[derive(Clone, Debug)]
pub struct Connections {
    total: Seats,
    counters: Counters,
}

impl Connections {
    /// Allows `max` open connections over all listeners.
    pub fn new(max: usize, counters: Counters) -> Self {
        Self {
            total: Seats::new(max),
            counters,
        }
    }
}

/// A bounded number of connections.
#[derive(Clone, Debug)]
struct Seats {
    free: Arc<Semaphore>,
    max: usize,
}

impl Seats {
    fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(max)),
            max,
        }
    }

    /// Waits for a seat, in the order of asking, and counts when there is none at once.
    async fn take(&self, pauses: &IntCounter) -> OwnedSemaphorePermit {
        if let Ok(seat) = Arc::clone(&self.free).try_acquire_owned() {
            return seat;
        }
        pauses.inc();
        #[expect(clippy::expect_used, reason = "nobody closes this semaphore")]
        Arc::clone(&self.free)
            .acquire_owned()
            .await
            .expect("the semaphore is open")
    }

    fn crowded(&self) -> bool {
        self.free.available_permits().saturating_mul(2) < self.max
    }
}

/// What a connection takes up; given back when dropped.
struct Place {
    listener: Seats,
    total: Seats,
    connections: IntGauge,
    _seats: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Place {
    fn crowded(&self) -> bool {
        self.listener.crowded() || self.total.crowded()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.dec();
    }
}

/// Accepts and serves connections until `shutdown`, then drains: the next answer on each connection
/// is its last, those on which nothing is asked any more are closed a little later, and it returns
/// when the last connection has ended. So a client that sends just then gets its answer.
///
/// What can be answered at once is, before the next connection is accepted; then each connection runs
/// in a task of its own. A panic in `service` ends its connection alone.
///
/// # Cancel safety
/// Dropping the future closes the listener and all its connections at once: bound the drain with
/// a timeout around it.
pub async fn serve<A, S, F>(
    mut listener: A,
    limits: Limits,
    pool: Connections,
    service: S,
    shutdown: CancellationToken,
) where
    A: Accept,
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let limits = Arc::new(limits);
    let seats = Seats::new(limits.per_listener);
    let tasks = TaskTracker::new();
    let abandoned = CancellationToken::new();
    let _abandon_on_drop = abandoned.clone().drop_guard();
    while let Some((io, place)) = shutdown
        .run_until_cancelled(admit(&mut listener, &seats, &pool))
        .await
    {
        let connection = Connection {
            place,
            limits: Arc::clone(&limits),
            shutdown: shutdown.clone(),
        };
        let service = service.clone();
        let abandoned = abandoned.clone();
        let mut connection = Box::pin(async move {
            abandoned
                .run_until_cancelled(connection.run(io, service))
                .await;
        });
        // Its request is mostly there already (see `Eager`), and its answer in memory. Answered before the next
        // connection is accepted, it is the only one that the process could take with it. A panic
        // ends this connection alone, as it would in its task.
        let answered = poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| connection.as_mut().poll(cx)));
            std::task::Poll::Ready(polled.map_or(true, |polled| polled.is_ready()))
        });
        if !answered.await {
            tasks.spawn(connection);
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Waits for the next connection and its place.
async fn admit<A: Accept>(listener: &mut A, seats: &Seats, pool: &Connections) -> (A::Io, Place) {
    let counters = &pool.counters;
    let own = seats.take(&counters.listener_pauses).await;
    let io = loop {
        match listener.accept().await {
            Ok(io) => break io,
            Err(error) => {
                counters.accept_errors.inc();
                throttled!(
                    &counters.suppressed_log_lines,
                    warn,
                    %error,
                    "failed to accept a connection, trying again"
                );
                tokio::time::sleep(REST_AFTER_ERROR).await;
            }
        }
    };
    let shared = pool.total.take(&counters.total_pauses).await;
    counters.connections.inc();
    let place = Place {
        listener: seats.clone(),
        total: pool.total.clone(),
        connections: counters.connections.clone(),
        _seats: (own, shared),
    };
    (io, place)
}
