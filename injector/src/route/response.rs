//! The responses, down to their headers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Unread;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An answered review.
pub(super) fn review(body: Bytes) -> Response<Full<Bytes>> {
    response(StatusCode::OK, JSON, body)
}

pub(super) fn malformed(reason: &str) -> Response<Full<Bytes>> {
    text(StatusCode::BAD_REQUEST, reason)
}

pub(super) fn not_found() -> Response<Full<Bytes>> {
    text(
        StatusCode::NOT_FOUND,
        "reviews go to /mutate or /mutate/required",
    )
}

pub(super) fn method_not_allowed() -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "reviews come with POST");
    let post = HeaderValue::from_static("POST");
    response.headers_mut().insert(ALLOW, post);
    response
}

pub(super) fn unread(unread: Unread) -> Response<Full<Bytes>> {
    let status = match unread {
        Unread::TooLarge | Unread::TooHeavy => StatusCode::PAYLOAD_TOO_LARGE,
        Unread::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Unread::Late => StatusCode::GATEWAY_TIMEOUT,
        Unread::Broken => StatusCode::BAD_REQUEST,
    };
    text(status, unread.text())
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(status, TEXT, Bytes::from(format!("{text}\n")))
}

fn response(status: StatusCode, kind: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
