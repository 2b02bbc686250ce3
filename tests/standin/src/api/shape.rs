//! Turns the rules that apply to a call into its answer.

use std::{future::pending, time::Duration};

use hyper::Response;
use s3s::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::reply;
use crate::{Behaviour, CutPoint, Endpoint, ExpiryForm, Malformation};

/// How a successful answer differs from the usual one.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, each set by one behaviour"
)]
pub(crate) struct Shape {
    pub(super) lifetime: Option<Duration>,
    pub(super) already_expired: bool,
    pub(super) session_token: bool,
    pub(super) expiry: ExpiryForm,
    malformed: Option<Malformation>,
    too_large: bool,
    cut: bool,
}

/// What becomes of a call.
pub(crate) enum Fate {
    /// It is answered with this, nothing is exchanged.
    Answer(Response<Body>),
    /// It is processed.
    Proceed(Shape),
}

impl Shape {
    /// Applies `rules` in order; waits, hangs or cuts the connection where they say so.
    pub(crate) async fn decide(
        rules: Vec<Behaviour>,
        endpoint: Endpoint,
        close: &CancellationToken,
    ) -> Fate {
        let mut shape = Self::default();
        for rule in rules {
            match rule {
                Behaviour::Delay(time) => tokio::time::sleep(time).await,
                Behaviour::Hang => pending().await,
                Behaviour::Cut(CutPoint::AfterReading) => return Fate::Answer(cut(close).await),
                Behaviour::Cut(CutPoint::AfterMinting) => shape.cut = true,
                Behaviour::Status {
                    status,
                    body,
                    retry_after,
                } => {
                    let body = body.unwrap_or_else(|| reply::body_for(status));
                    return Fate::Answer(reply::status(status, body, retry_after));
                }
                Behaviour::RateLimit { .. } => {
                    return Fate::Answer(reply::error(8, "rate limit exceeded", Some(1)));
                }
                Behaviour::RefusePost(status) if endpoint == Endpoint::Post => {
                    return Fate::Answer(reply::status(status, reply::body_for(status), None));
                }
                Behaviour::Normal
                | Behaviour::RefusePost(_)
                | Behaviour::Cut(CutPoint::BeforeReading) => {}
                Behaviour::Malformed(kind) => shape.malformed = Some(kind),
                Behaviour::TooLarge => shape.too_large = true,
                Behaviour::AlreadyExpired => shape.already_expired = true,
                Behaviour::WithSessionToken => shape.session_token = true,
                Behaviour::Expiry(form) => shape.expiry = form,
                Behaviour::Lifetime(lifetime) => shape.lifetime = Some(lifetime),
            }
        }
        Fate::Proceed(shape)
    }

    /// Writes `document` as the answer, spoilt where a rule says so.
    pub(crate) async fn finish(
        &self,
        mut document: Value,
        close: &CancellationToken,
    ) -> Response<Body> {
        if self.cut {
            return cut(close).await;
        }
        if let Some(fields) = document.as_object_mut() {
            if self.malformed == Some(Malformation::MissingSecret) {
                fields.retain(|name, _| name != "secretKey" && name != "SecretAccessKey");
            }
            if self.malformed == Some(Malformation::BadExpiry) {
                for name in ["expiry", "Expiration"] {
                    if let Some(expiry) = fields.get_mut(name) {
                        *expiry = "soon".into();
                    }
                }
            }
            if self.too_large {
                fields.insert("attributes".into(), json!({"pad": "x".repeat(2 << 20)}));
            }
        }
        let mut body = document.to_string();
        match self.malformed {
            Some(Malformation::Empty) => body.clear(),
            Some(Malformation::NotJson) => body = "<html>gateway</html>".into(),
            Some(Malformation::Truncated) => body.truncate(body.len() / 2),
            _ => {}
        }
        reply::status(200, body, None)
    }
}

/// Drops the connection, so the caller gets no answer.
pub(super) async fn cut(close: &CancellationToken) -> Response<Body> {
    close.cancel();
    pending().await
}
