//! What S3 was asked, for tests to look at.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Request, Response, header};
use s3s::Body;
use serde::Serialize;

use super::host::Domains;
use crate::keys::Keys;

/// How many requests are remembered; older ones are forgotten first.
const REMEMBERED: usize = 100_000;

/// Where the bucket was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// In the path.
    Path,
    /// In the host name.
    VirtualHost,
}

/// One request to S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct S3Request {
    /// The HTTP method.
    pub method: String,
    /// The bucket, empty for none.
    pub bucket: String,
    /// The key as in the path (percent-encoded), empty for none.
    pub key: String,
    /// Who it says has signed it.
    pub access_key_id: Option<String>,
    /// Whom that key was minted for.
    pub principal: Option<String>,
    /// Whether it carries a signature, right or wrong.
    pub signed: bool,
    /// Where the bucket was named.
    pub addressing: Addressing,
    /// Whether `x-amz-security-token` was sent: `Some(true)` with a value, `Some(false)` empty.
    pub security_token: Option<bool>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The error code of the answer, such as `AccessDenied`.
    pub error: Option<String>,
}

impl S3Request {
    /// Describes a request that has not been answered yet.
    pub(super) fn seen<B>(request: &Request<B>, host: &Domains, keys: &Keys) -> Self {
        let text = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let query = request.uri().query().unwrap_or_default();
        let credential = text(header::AUTHORIZATION)
            .and_then(|value| value.split_once("Credential="))
            .or_else(|| query.split_once("X-Amz-Credential="))
            .map(|(_, rest)| rest);
        let access_key_id =
            credential.and_then(|rest| Some(rest.split(['/', '%']).next()?.to_owned()));
        let named = text(header::HOST)
            .or_else(|| {
                request
                    .uri()
                    .authority()
                    .map(hyper::http::uri::Authority::as_str)
            })
            .and_then(|name| host.bucket(name));
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = match named {
            Some(bucket) => (bucket, path),
            None => path.split_once('/').unwrap_or((path, "")),
        };
        Self {
            method: request.method().to_string(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            principal: access_key_id
                .as_deref()
                .and_then(|id| Some(keys.find(id)?.principal)),
            signed: access_key_id.is_some(),
            access_key_id,
            addressing: if named.is_some() {
                Addressing::VirtualHost
            } else {
                Addressing::Path
            },
            security_token: request
                .headers()
                .get("x-amz-security-token")
                .map(|value| !value.is_empty()),
            status: 0,
            error: None,
        }
    }
}

/// Where requests are noted.
#[derive(Default)]
pub(crate) struct Records(Mutex<VecDeque<S3Request>>);

impl Records {
    /// Notes a request with its answer and hands the answer on.
    pub(super) async fn note(&self, seen: S3Request, response: Response<Body>) -> Response<Body> {
        let (parts, mut body) = response.into_parts();
        let mut error = None;
        if parts.status.as_u16() >= 400 {
            let bytes = match body.collect().await {
                Ok(bytes) => bytes.to_bytes(),
                Err(_) => Bytes::new(),
            };
            error = code(&String::from_utf8_lossy(&bytes));
            body = Body::from(bytes);
        }
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() == REMEMBERED {
            records.pop_front();
        }
        records.push_back(S3Request {
            status: parts.status.as_u16(),
            error,
            ..seen
        });
        drop(records);
        Response::from_parts(parts, body)
    }

    /// Copies what was noted, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<S3Request> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().cloned().collect()
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

fn code(xml: &str) -> Option<String> {
    let (_, rest) = xml.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    Some(code.to_owned())
}
