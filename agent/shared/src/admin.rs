//! What operators and the kubelet ask the agent: `/metrics`, `/livez` and `/readyz`.

mod readiness;

use std::fmt::Write as _;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};

pub use readiness::Readiness;

/// Answers admin requests. It says nothing secret and changes nothing.
pub struct Admin {
    registry: Registry,
    readiness: Readiness,
    refresh: Box<dyn Fn() + Send + Sync>,
}

impl Admin {
    /// Shows `registry`, to which the `process_*` metrics are added, and `readiness`.
    ///
    /// `refresh` is called before metrics are gathered, for gauges that are cheaper to compute
    /// than to keep.
    ///
    /// # Errors
    /// [`prometheus::Error`] when `registry` has process metrics already.
    pub fn new(
        registry: Registry,
        readiness: Readiness,
        refresh: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, prometheus::Error> {
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            registry,
            readiness,
            refresh: Box::new(refresh),
        })
    }

    /// What `/readyz` asks for.
    pub const fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Answers one request. Reads no body.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/livez" | "/readyz") {
            return text(StatusCode::NOT_FOUND, "not found\n".to_owned());
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned());
            let methods = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, methods);
            return response;
        }
        match path {
            "/metrics" => self.metrics(),
            "/readyz" => self.ready(),
            _ => text(StatusCode::OK, "ok\n".to_owned()),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        (self.refresh)();
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                let format = HeaderValue::from_static(TEXT_FORMAT);
                response.headers_mut().insert(CONTENT_TYPE, format);
                response
            }
            Err(error) => {
                let message = format!("failed to encode the metrics: {error}\n");
                text(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let mut unmet = String::new();
        for name in self.readiness.unmet() {
            // Writing to a String cannot fail.
            let _ = writeln!(unmet, "{name}");
        }
        if unmet.is_empty() {
            text(StatusCode::OK, "ok\n".to_owned())
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, unmet)
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::BodyExt;
    use prometheus::IntGauge;

    use super::*;

    async fn ask(admin: &Admin, method: Method, path: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .unwrap();
        let (head, body) = admin.answer(&request).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            head.status.as_u16(),
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }

    #[tokio::test]
    async fn metrics_are_refreshed_before_they_are_shown_beside_those_of_the_process() {
        let registry = Registry::new();
        let gauge = IntGauge::new("fresh", "set by the hook").unwrap();
        registry.register(Box::new(gauge.clone())).unwrap();
        let admin = Admin::new(registry, Readiness::default(), move || gauge.inc()).unwrap();
        let (status, metrics) = ask(&admin, Method::GET, "/metrics").await;
        assert_eq!(status, 200);
        assert!(metrics.contains("\nfresh 1\n"), "{metrics}");
        assert!(metrics.contains("\nprocess_open_fds "), "{metrics}");
    }

    #[tokio::test]
    async fn readyz_names_what_is_not_ready_while_livez_does_not_care() {
        let keys = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&keys);
        let readiness = Readiness::default()
            .with("sockets", || true)
            .with("issuer-keys", move || seen.load(Ordering::Relaxed));
        let admin = Admin::new(Registry::new(), readiness, || ()).unwrap();
        let unready = (503, "issuer-keys\n".to_owned());
        assert_eq!(ask(&admin, Method::GET, "/readyz").await, unready);
        let ok = (200, "ok\n".to_owned());
        assert_eq!(ask(&admin, Method::GET, "/livez").await, ok);
        keys.store(true, Ordering::Relaxed);
        assert_eq!(ask(&admin, Method::GET, "/readyz").await, ok);
    }

    #[tokio::test]
    async fn nothing_else_is_answered() {
        let admin = Admin::new(Registry::new(), Readiness::default(), || ()).unwrap();
        assert_eq!(ask(&admin, Method::GET, "/").await.0, 404);
        assert_eq!(ask(&admin, Method::POST, "/metrics").await.0, 405);
    }
}
