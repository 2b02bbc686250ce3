//! Responses in the API's own shapes.

use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use s3s::Body;
use serde_json::json;

/// Answers with `status` and `body`.
pub(crate) fn status(
    status: u16,
    body: impl Into<String>,
    retry_after: Option<u64>,
) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Answers with gRPC-gateway's `Status` for a gRPC code.
pub(crate) fn error(code: u8, message: &str, retry_after: Option<u64>) -> Response<Body> {
    let http = match code {
        3 => 400,
        5 => 404,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    };
    let body = json!({"code": code, "message": message, "details": []});
    status(http, body.to_string(), retry_after)
}

/// The `Status` body that goes with an HTTP status.
pub(super) fn body_for(http: u16) -> String {
    let (code, message) = match http {
        400 => (3, "invalid argument"),
        401 => (16, "unauthenticated"),
        403 => (7, "permission denied"),
        404 => (5, "Not Found"),
        405 | 501 => (12, "Method Not Allowed"),
        429 => (8, "resource exhausted"),
        503 => (14, "unavailable"),
        _ => (13, "internal error"),
    };
    json!({"code": code, "message": message, "details": []}).to_string()
}
