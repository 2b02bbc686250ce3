//! A mutating webhook as other vendors have them, which is called after ours.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::control_plane::{ADDRESS, ControlPlane};
use crate::wait;

/// How long the API server may take to see a webhook.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the API server's metrics call it.
pub const NAME: &str = "later.example.com";

/// A running webhook.
pub struct Webhook<'a> {
    cluster: &'a ControlPlane,
    path: String,
    serving: JoinHandle<()>,
}

/// The operations that it answers a Pod with; `None` returns the Pod as it came.
type Change = Arc<dyn Fn(&Value) -> Option<Value> + Send + Sync>;

struct Service {
    change: Change,
    calls: AtomicU64,
}

impl<'a> Webhook<'a> {
    /// Starts one that is asked about every new Pod of `namespace` and answers with what `change` says,
    /// and waits until the API server calls it.
    ///
    /// # Errors
    /// When it cannot be registered, or is not called in time.
    pub fn start(
        cluster: &'a ControlPlane,
        namespace: &str,
        change: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let port = cluster.port();
        let (tls, authority) = certificate()?;
        let listener = cluster.run(TcpListener::bind((ADDRESS, port)))?;
        let service = Arc::new(Service {
            change: Arc::new(change),
            calls: AtomicU64::new(0),
        });
        let serving = serve(listener, tls, Arc::clone(&service));
        let serving = cluster.network().handle().spawn(serving);
        // Webhooks are called in the order of their configurations' names; ours begins with `c`.
        let name = cluster.unique("later");
        let registered = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": name },
            "webhooks": [{
                "name": NAME,
                "clientConfig": {
                    "url": format!("https://{ADDRESS}:{port}/"),
                    "caBundle": STANDARD.encode(authority),
                },
                "rules": [{
                    "apiGroups": [""], "apiVersions": ["v1"],
                    "operations": ["CREATE"], "resources": ["pods"],
                }],
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
                "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }],
        });
        cluster.apply(&registered)?.accepted()?;
        let webhook = Self {
            cluster,
            path: format!(
                "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}"
            ),
            serving,
        };
        let probe = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": namespace, "name": "probe" },
            "spec": {
                "initContainers": [{ "name": "first", "image": "app.invalid/app" }],
                "containers": [{ "name": "main", "image": "app.invalid/app" }],
            },
        });
        let mut last = None;
        wait::until("the API server calls the later webhook", PATIENCE, || {
            last = Some(cluster.create_dry(&probe));
            service.calls.load(Ordering::Relaxed) > 0
        })
        .with_context(|| format!("the last answer: {last:?}"))?;
        Ok(webhook)
    }
}

impl Drop for Webhook<'_> {
    fn drop(&mut self) {
        // A control plane that is gone calls nobody.
        let _ = self.cluster.delete(&self.path);
        self.serving.abort();
    }
}

/// TLS with a certificate for [`ADDRESS`], and what to trust it by, PEM.
fn certificate() -> anyhow::Result<(TlsAcceptor, String)> {
    let made = rcgen::generate_simple_self_signed([ADDRESS.to_string()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let key = key.map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), made.cert.pem()))
}

/// Serves until it is aborted; its connections end with it.
async fn serve(listener: TcpListener, tls: TlsAcceptor, service: Arc<Service>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, tls.clone(), Arc::clone(&service)));
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, service: Arc<Service>) {
    // What goes wrong here the API server reports: its policy is `Fail`.
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let service = service_fn(|request: Request<Incoming>| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let unreadable = || {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        };
        let Ok(body) = request.into_body().collect().await else {
            return unreadable();
        };
        let Ok(review) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
            return unreadable();
        };
        self.calls.fetch_add(1, Ordering::Relaxed);
        let request = |member| review.pointer(&format!("/request/{member}"));
        let object = request("object").cloned().unwrap_or_default();
        let response = match (self.change)(&object) {
            None => json!({ "uid": request("uid"), "allowed": true }),
            Some(operations) => json!({
                "uid": request("uid"),
                "allowed": true,
                "patchType": "JSONPatch",
                "patch": STANDARD.encode(operations.to_string()),
            }),
        };
        let answer = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
        });
        Response::new(Full::new(Bytes::from(answer.to_string())))
    }
}
