//! The responses, down to their headers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::error::Error;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// Both spellings: SDKs look for one or the other.
#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(rename = "Code")]
    upper_code: &'a str,
    #[serde(rename = "Message")]
    upper_message: &'a str,
}

pub(super) fn credentials(body: Bytes) -> Response<Full<Bytes>> {
    json(StatusCode::OK, body)
}

pub(super) fn error(error: &Error) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = refusal(status, error.code(), &error.to_string());
    if let Error::Unavailable { retry_after, .. } = error {
        let up = u64::from(retry_after.subsec_nanos() > 0);
        let seconds = retry_after.as_secs().saturating_add(up).max(1);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(super) fn not_found() -> Response<Full<Bytes>> {
    let message = format!(
        "there is nothing here; credentials are at `{}`",
        shared::contract::CREDENTIALS_PATH
    );
    refusal(StatusCode::NOT_FOUND, "NotFound", &message)
}

pub(super) fn method_not_allowed() -> Response<Full<Bytes>> {
    let mut response = refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "credentials are read with GET",
    );
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = Body {
        code,
        message,
        upper_code: code,
        upper_message: message,
    };
    #[expect(clippy::expect_used, reason = "four strings: nothing in them can fail")]
    let body = serde_json::to_vec(&body).expect("strings serialise");
    json(status, Bytes::from(body))
}

/// The server adds `Content-Length`, and leaves the body out for HEAD.
fn json(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    response
}
