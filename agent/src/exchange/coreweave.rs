//! CoreWeave's API, called once or twice for one exchange.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, Url};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::client::Connector;
use super::fallback::Fallback;
use super::settings::{BuildError, Settings};
use super::{Exchange, ExchangeError, refusal, retry_after, wire};
use crate::credentials::Credentials;
use crate::metrics::{ExchangeOutcome, Method, Metrics};
use crate::workload::{Identity, Token};
use shared::causes::causes;
use shared::clock::Clock;

/// Answers are below 2 KiB; more is not one of CoreWeave's.
const LONGEST_BODY: usize = 64 * 1024;

/// Exchanges tokens at CoreWeave: POST for a chosen lifetime, GET for identities that POST is
/// refused to.
///
/// Retries nothing that may have minted a key. The HTTP library below sends a request a second time
/// only where the first surely was not processed: its pooled connection was closed before the
/// request was written, or HTTP/2 said so (`REFUSED_STREAM`, `GOAWAY` without an error).
#[derive(Debug)]
pub struct CoreWeave {
    settings: Arc<Settings>,
    connector: Connector,
    fallback: Mutex<Fallback>,
    post: Url,
    get: Url,
    clock: Clock,
    metrics: Metrics,
}

impl CoreWeave {
    /// Checks `settings`, reads the CA file and builds the client. Makes no call.
    ///
    /// # Errors
    /// The first of [`Settings::problems`]; or the CA file cannot be read or used; or there is no
    /// CA certificate at all.
    pub fn new(settings: Settings, clock: Clock, metrics: Metrics) -> Result<Self, BuildError> {
        if let Some(problem) = settings.problems().into_iter().next() {
            return Err(problem);
        }
        let settings = Arc::new(settings);
        Ok(Self {
            connector: Connector::new(Arc::clone(&settings))?,
            fallback: Mutex::default(),
            post: settings.endpoint(None),
            get: settings.endpoint(Some(&settings.org_id)),
            settings,
            clock,
            metrics,
        })
    }

    /// Makes one call and counts it.
    async fn call(
        &self,
        method: Method,
        identity: &Identity,
        token: &Token,
    ) -> Result<Credentials, ExchangeError> {
        let started = Instant::now();
        let result = self.send(method, identity, token).await;
        let outcome = match &result {
            Ok(_) => ExchangeOutcome::Success,
            Err(ExchangeError::Refused { .. }) => ExchangeOutcome::Refused,
            Err(ExchangeError::Throttled { .. }) => ExchangeOutcome::Throttled,
            Err(ExchangeError::Unavailable { .. }) => ExchangeOutcome::Unavailable,
            Err(ExchangeError::Uncertain { .. }) => ExchangeOutcome::Uncertain,
        };
        self.metrics.exchange_requests.of(method, outcome).inc();
        self.metrics
            .exchange_duration
            .of(method)
            .observe(started.elapsed().as_secs_f64());
        result
    }

    /// A request, and what it tries.
    fn request(
        &self,
        client: &reqwest::Client,
        method: Method,
        token: &Token,
    ) -> Result<(RequestBuilder, String), ExchangeError> {
        Ok(match method {
            Method::Post => (
                client
                    .post(self.post.clone())
                    .header(CONTENT_TYPE, "application/json")
                    .body(wire::request(&self.settings, token)),
                format!("POST {}", self.post),
            ),
            Method::Get => (
                with_token(client.get(self.get.clone()), token)?,
                format!("GET {}", self.get),
            ),
        })
    }

    async fn send(
        &self,
        method: Method,
        identity: &Identity,
        token: &Token,
    ) -> Result<Credentials, ExchangeError> {
        let used = self.connector.client().await;
        let (request, tried) = self.request(&used.client, method, token)?;
        let mut sent = request.send().await;
        // Nothing was sent where there was no connection: it may be tried with another CA.
        if sent.as_ref().is_err_and(reqwest::Error::is_connect)
            && let Some(other) = self.connector.instead_of(&used).await
        {
            let (request, _) = self.request(&other.client, method, token)?;
            sent = request.send().await;
        }
        let response = sent.map_err(|error| unanswered(&tried, error))?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, self.clock.now()));
        let date = response.headers().get(DATE);
        let date = date.and_then(|value| {
            let date = DateTimeParser::new().parse_timestamp(value.to_str().ok()?);
            date.ok()
        });
        let body = read(response).await;
        if status == 200 {
            return body
                .and_then(|body| {
                    wire::credentials(&body, &self.settings.session_token_placeholder)
                        .map_err(str::to_owned)
                })
                .map(|credentials| credentials.minted_at(date))
                .map_err(|complaint| ExchangeError::Uncertain {
                    message: format!("the answer to {tried} {complaint}"),
                });
        }
        // The status decides; a body that cannot be read only takes away the issuer's words.
        let said = refusal::said(status, &body.unwrap_or_default(), token);
        let message = format!("CoreWeave did not answer {tried} with keys: {said}");
        Err(match (status, method) {
            (400 | 401 | 403 | 404, _) | (405 | 501, Method::Post) => ExchangeError::Refused {
                status,
                message: refusal::refused(status, &said, identity, &self.settings),
            },
            (429, _) => ExchangeError::Throttled {
                retry_after,
                message,
            },
            (503 | 504, _) => ExchangeError::Unavailable {
                retry_after,
                message,
            },
            _ => ExchangeError::Uncertain { message },
        })
    }

    /// Changes the memory of who is on GET, keeps its gauge right, and tells if it was news.
    fn fallback<T>(&self, change: impl FnOnce(&mut Fallback) -> T) -> T {
        let mut fallback = self.fallback.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut fallback);
        self.metrics.short_lived_identities.set(fallback.count());
        result
    }
}

impl Exchange for CoreWeave {
    async fn exchange(
        &self,
        identity: &Identity,
        token: &Token,
    ) -> Result<Credentials, ExchangeError> {
        let mut post_refusal = None;
        if self.fallback(|f| f.choose(identity, Instant::now())) == Method::Post {
            match self.call(Method::Post, identity, token).await {
                Ok(credentials) => {
                    if self.fallback(|f| f.forget(identity)) {
                        let principal = identity.principal();
                        tracing::info!(%principal, "POST is granted again: keys live long again");
                    }
                    return Ok(credentials);
                }
                Err(
                    error @ ExchangeError::Refused {
                        status: 403 | 404 | 405 | 501,
                        ..
                    },
                ) => post_refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        match (self.call(Method::Get, identity, token).await, post_refusal) {
            (Ok(credentials), post_refusal) => {
                let is_news = self.fallback(|f| f.remember(identity, Instant::now()));
                if let Some(error) = post_refusal.filter(|_| is_news) {
                    let principal = identity.principal();
                    tracing::warn!(
                        %principal, %error,
                        "POST is refused, GET is not: this identity gets keys of 15 minutes"
                    );
                }
                Ok(credentials)
            }
            (Err(get_refusal @ ExchangeError::Refused { .. }), post_refusal) => {
                self.fallback(|f| f.forget(identity));
                // A 403 knows the token and names the missing grant; 404, 405 and 501 may only
                // mean that this API has no POST.
                Err(post_refusal
                    .filter(|error| matches!(error, ExchangeError::Refused { status: 403, .. }))
                    .unwrap_or(get_refusal))
            }
            (Err(error), _) => Err(error),
        }
    }

    fn on_get_until(&self, identity: &Identity) -> Option<Instant> {
        self.fallback(|f| f.until(identity))
    }

    fn go_on_with_get(&self, identity: &Identity, until: Instant) {
        self.fallback(|f| f.restore(identity, until, Instant::now()));
    }
}

/// The raw token in `Authorization`, without a scheme, as CoreWeave's API wants it.
fn with_token(request: RequestBuilder, token: &Token) -> Result<RequestBuilder, ExchangeError> {
    let mut value = HeaderValue::from_str(token.expose()).map_err(|_| ExchangeError::Refused {
        status: 400,
        message: "the service account token has characters that no header can carry".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(request.header(AUTHORIZATION, value))
}

/// Sorts errors that came instead of an answer: without a connection nothing was minted.
fn unanswered(tried: &str, error: reqwest::Error) -> ExchangeError {
    let is_connect = error.is_connect();
    let cause = causes(&error.without_url());
    if is_connect {
        ExchangeError::Unavailable {
            retry_after: None,
            message: format!(
                "no connection for {tried}: {cause}; if it is a certificate, give its CA by \
                 `--ca-file`"
            ),
        }
    } else {
        ExchangeError::Uncertain {
            message: format!("no answer to {tried}: {cause}"),
        }
    }
}

/// Reads a body into a buffer that is wiped, or says why not. What the HTTP library itself buffers
/// is not covered.
async fn read(mut response: Response) -> Result<Zeroizing<Vec<u8>>, String> {
    // Never grows, so no unwiped copy of it is left behind.
    let mut body = Zeroizing::new(Vec::with_capacity(LONGEST_BODY));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > LONGEST_BODY => {
                return Err(format!("is longer than {LONGEST_BODY} bytes"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => {
                let cause = causes(&error.without_url());
                return Err(format!("was not received whole: {cause}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
