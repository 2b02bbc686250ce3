//! One credential request in HTTP terms: the only place that turns an error into a status, a log
//! line and metrics.

mod response;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, Request, Response};
use shared::contract::CREDENTIALS_PATH;
use shared::throttled;
use tokio::time::Instant;

use crate::credentials::Credentials;
use crate::error::Error;
use crate::metrics::{Metrics, Outcome};
use crate::status::Ledger;
use crate::tenants::Tenants;
use crate::workload::PodUid;

/// Decides who gets credentials, and has them.
pub trait Authority: Send + Sync + 'static {
    /// Gives the credentials of whoever `authorization` proves, and how they were come by.
    ///
    /// `authorization` is the header's value as it was sent, if it was. `listener` has the Pods that
    /// the listener serves, where it does not serve all.
    ///
    /// # Errors
    /// [`Error`], which says what to answer.
    ///
    /// # Cancel safety
    /// Must be safe: clients hang up.
    fn credentials(
        &self,
        authorization: Option<&[u8]>,
        listener: Option<&Tenants>,
    ) -> impl Future<Output = Result<(Credentials, Outcome), Error>> + Send;
}

/// Answers credential requests. A cheap clone: every connection has one.
#[derive(Debug)]
pub struct Route<A>(Arc<Parts<A>>);

#[derive(Debug)]
struct Parts<A> {
    authority: Arc<A>,
    metrics: Metrics,
    ledger: Option<Arc<Ledger>>,
}

impl<A> Clone for Route<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Authority> Route<A> {
    /// Answers by what `authority` says, and remembers in `ledger` the last error of each Pod.
    pub fn new(authority: Arc<A>, metrics: Metrics, ledger: Option<Arc<Ledger>>) -> Self {
        Self(Arc::new(Parts {
            authority,
            metrics,
            ledger,
        }))
    }

    /// Answers one request that came through the listener of a Pod, or through one that all share.
    /// Reads no body.
    pub async fn answer<B>(
        &self,
        request: Request<B>,
        listener: Option<&Tenants>,
    ) -> Response<Full<Bytes>> {
        let begun = Instant::now();
        let pod = listener.and_then(Tenants::only);
        let pod = pod.as_ref();
        let (outcome, response) = if request.uri().path() != CREDENTIALS_PATH {
            (Outcome::Malformed, response::not_found())
        } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
            (Outcome::Malformed, response::method_not_allowed())
        } else {
            match self.credentials(&request, listener).await {
                Ok((credentials, outcome)) => {
                    tracing::debug!(
                        pod_uid = pod.map(PodUid::as_str),
                        access_key_id = credentials.access_key_id(),
                        ?outcome,
                        "answered with credentials"
                    );
                    (outcome, response::credentials(credentials.body()))
                }
                Err(error) => {
                    self.log(&error, pod);
                    if let (Some(ledger), Some(pod)) = (&self.0.ledger, pod) {
                        ledger.failed(pod, &error);
                    }
                    (error.outcome(), response::error(&error))
                }
            }
        };
        self.0.metrics.requests.of(outcome).inc();
        self.0
            .metrics
            .request_duration
            .of(outcome)
            .observe(begun.elapsed().as_secs_f64());
        response
    }

    async fn credentials<B>(
        &self,
        request: &Request<B>,
        listener: Option<&Tenants>,
    ) -> Result<(Credentials, Outcome), Error> {
        let mut values = request.headers().get_all(AUTHORIZATION).iter();
        let authorization = values.next().map(HeaderValue::as_bytes);
        if values.next().is_some() {
            return Err(Error::Malformed(
                "the request has more than one Authorization header; send one token".to_owned(),
            ));
        }
        self.0.authority.credentials(authorization, listener).await
    }

    /// Logs why a workload gets nothing. Some SDKs send a request without a token each time they
    /// fail to refresh, so those are no warnings. The reason is quoted: a Pod can put line breaks
    /// into a token.
    fn log(&self, error: &Error, pod: Option<&PodUid>) {
        let pod_uid = pod.map(PodUid::as_str);
        let (status, reason) = (error.status(), error.to_string());
        let suppressed = &self.0.metrics.suppressed_log_lines;
        match error {
            Error::Malformed(_) | Error::Unauthenticated(_) => {
                throttled!(
                    suppressed,
                    info,
                    pod_uid,
                    status,
                    ?reason,
                    "answered without credentials"
                );
            }
            Error::Forbidden(_) | Error::Unavailable { .. } => {
                throttled!(
                    suppressed,
                    warn,
                    pod_uid,
                    status,
                    ?reason,
                    "answered without credentials"
                );
            }
        }
    }
}
