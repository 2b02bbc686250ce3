//! One review in HTTP terms: the only place that turns what happens into a status, one count and
//! one log line.
//!
//! Whatever cannot be decided follows the webhook that asks: an optional Pod starts, with a
//! warning, and a required one is refused, with a message.

mod body;
mod response;
#[cfg(test)]
mod tests;
mod weight;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Method, Request, Response};
use shared::metrics::Label as _;
use shared::throttled;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::body::{Bodies, Unread};
use self::weight::Weights;
use crate::decide::Decide;
use crate::metrics::{Metrics, Outcome};
use crate::mutate::Decision;
use crate::review;

/// The path of the webhook for Pods that must not start without credentials.
pub const REQUIRED_PATH: &str = "/mutate/required";
/// The path of the webhook for all other Pods.
pub const OPTIONAL_PATH: &str = "/mutate";

/// What names are cut to in the log; the API server allows none longer.
const LONGEST_NAME: usize = 253;

/// What reviews may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time for a whole review.
    pub timeout: Duration,
    /// Reviews that are decided at once.
    pub reviews: usize,
    /// Bytes of one review.
    pub bytes: usize,
}

/// Answers reviews. A cheap clone.
#[derive(Clone)]
pub struct Route {
    decide: Arc<Decide>,
    metrics: Metrics,
    timeout: Duration,
    bodies: Bodies,
    weights: Weights,
    reviews: Arc<Semaphore>,
    ending: CancellationToken,
}

impl Route {
    /// Answers with what `decide` says. Once `ending` is cancelled, answers ask the API server to
    /// open its next connection elsewhere.
    pub fn new(
        decide: Arc<Decide>,
        limits: &Limits,
        metrics: Metrics,
        ending: CancellationToken,
    ) -> Self {
        Self {
            decide,
            metrics,
            timeout: limits.timeout,
            bodies: Bodies::new(limits.bytes),
            weights: Weights::new(),
            reviews: Arc::new(Semaphore::new(limits.reviews)),
            ending,
        }
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let started = Instant::now();
        let (outcome, mut response) = self.review(request, started).await;
        self.metrics.reviews.of(outcome).inc();
        let elapsed = started.elapsed();
        self.metrics.review_duration.observe(elapsed.as_secs_f64());
        if self.ending.is_cancelled() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    async fn review<B>(
        &self,
        request: Request<B>,
        started: Instant,
    ) -> (Outcome, Response<Full<Bytes>>)
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let required = match request.uri().path() {
            REQUIRED_PATH => true,
            OPTIONAL_PATH => false,
            _ => return (Outcome::Malformed, response::not_found()),
        };
        if request.method() != Method::POST {
            return (Outcome::Malformed, response::method_not_allowed());
        }
        let deadline = started + self.timeout;
        let body = match self.bodies.read(request.into_body(), deadline).await {
            Ok(body) => body,
            Err(unread) => return self.unread(unread),
        };
        // Waiting costs no more than the body, and a 503 would cost an optional Pod its credentials.
        let Ok(Ok(_turn)) = timeout_at(deadline, self.reviews.acquire()).await else {
            return self.unread(Unread::Busy);
        };
        // Before the review, so that it is given back after it.
        let _memory = match self.weights.take(&body.bytes, deadline).await {
            Ok(memory) => memory,
            Err(unread) => return self.unread(unread),
        };
        let review = match review::Request::read(&body.bytes) {
            Ok(review) => review,
            Err(error) => {
                throttled!(
                    &self.metrics.suppressed_log_lines,
                    warn,
                    %error,
                    "refused what is no review"
                );
                let text = error.to_string();
                return (Outcome::Malformed, response::malformed(&text));
            }
        };
        let decided = timeout_at(deadline, self.decide.decide(&review, required, deadline)).await;
        let (outcome, verdict) = decided.unwrap_or_else(|_elapsed| Decide::late(required));
        log(&review, required, outcome, started);
        let answer = review::answer(&review.uid, &verdict);
        (outcome, response::review(answer.into()))
    }

    fn unread(&self, unread: Unread) -> (Outcome, Response<Full<Bytes>>) {
        let outcome = match unread {
            Unread::TooLarge | Unread::TooHeavy => Outcome::TooLarge,
            Unread::Busy => Outcome::Busy,
            Unread::Late => Outcome::TimedOut,
            Unread::Broken => Outcome::Malformed,
        };
        throttled!(
            &self.metrics.suppressed_log_lines,
            warn,
            reason = unread.text(),
            "failed to take a review"
        );
        (outcome, response::unread(unread))
    }
}

/// The one line of a review. Names are cut: at this point nobody has checked their length.
fn log(review: &review::Request, required: bool, outcome: Outcome, started: Instant) {
    let cut = |text: &str| text.chars().take(LONGEST_NAME).collect::<String>();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                uid = cut(&review.uid),
                namespace = cut(&review.namespace),
                name = cut(&review.name),
                decision = outcome.text(),
                required,
                dry_run = review.dry_run,
                elapsed_ms = started.elapsed().as_secs_f64() * 1_000.0,
                "reviewed"
            )
        };
    }
    // Most Pods of a cluster ask for nothing; a line for each would hide the others.
    if outcome == Outcome::Decided(Decision::NotAsked) {
        line!(debug);
    } else {
        line!(info);
    }
}
