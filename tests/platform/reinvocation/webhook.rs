//! A mutating webhook as other vendors have them, which is called after ours.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tests::control_plane::{ADDRESS, ControlPlane};
use tests::wait;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// How long the API server may take to see a webhook.
const PATIENCE: Duration = Duration::from_secs(30);
/// What it marks the Pods with that it has changed.
pub(super) const MARK: &str = "later.example/changed";

/// A running webhook.
pub(super) struct Webhook {
    cluster: &'static ControlPlane,
    path: String,
    seen: Seen,
    serving: JoinHandle<()>,
}

/// The Pods of all reviews.
type Seen = Arc<Mutex<Vec<Value>>>;

impl Webhook {
    /// Starts one that applies the operations of `patch` to every Pod of `namespace` once, and
    /// waits until the API server calls it.
    pub(super) fn start(cluster: &'static ControlPlane, namespace: &str, patch: &[Value]) -> Self {
        let port = cluster.port();
        let (tls, authority) = certificate();
        let listener = cluster.run(TcpListener::bind((ADDRESS, port))).unwrap();
        let (seen, patch) = (Seen::default(), patch.to_vec());
        let serving = serve(listener, tls, patch.into(), Arc::clone(&seen));
        let serving = cluster.network().handle().spawn(serving);
        // Webhooks are called in the order of their configurations' names; ours begins with `c`.
        let name = cluster.unique("later");
        let registered = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": name },
            "webhooks": [{
                "name": "later.example.com",
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
        cluster.apply(&registered).unwrap().accepted().unwrap();
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
            let answer = cluster.create_dry(&probe).unwrap();
            let called = answer.body["metadata"]["annotations"][MARK].is_string();
            last = Some(answer);
            called
        })
        .unwrap_or_else(|error| panic!("{error}: {last:?}"));
        Self {
            cluster,
            path: format!(
                "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}"
            ),
            seen,
            serving,
        }
    }

    /// The Pod of this name as each review brought it.
    pub(super) fn seen(&self, name: &str) -> Vec<Value> {
        let all = self.seen.lock().unwrap();
        let named = all.iter().filter(|pod| pod["metadata"]["name"] == name);
        named.cloned().collect()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        // A control plane that is gone calls nobody.
        let _ = self.cluster.delete(&self.path);
        self.serving.abort();
    }
}

/// TLS with a certificate for [`ADDRESS`], and what to trust it by, PEM.
fn certificate() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed([ADDRESS.to_string()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

/// Serves until it is aborted; its connections end with it.
async fn serve(listener: TcpListener, tls: TlsAcceptor, patch: Arc<[Value]>, seen: Seen) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (patch, seen) = (Arc::clone(&patch), Arc::clone(&seen));
        connections.spawn(connection(stream, tls.clone(), patch, seen));
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, patch: Arc<[Value]>, seen: Seen) {
    // What goes wrong here the API server reports: its policy is `Fail`.
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let service = service_fn(|request: Request<Incoming>| {
        let (patch, seen) = (Arc::clone(&patch), Arc::clone(&seen));
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let review: Value = serde_json::from_slice(&body).unwrap();
            let pod = &review["request"]["object"];
            seen.lock().unwrap().push(pod.clone());
            let operations = operations(pod, &patch);
            let answer = json!({
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": {
                    "uid": review["request"]["uid"],
                    "allowed": true,
                    "patchType": "JSONPatch",
                    "patch": STANDARD.encode(operations.to_string()),
                },
            });
            let answer = Full::new(Bytes::from(answer.to_string()));
            Ok::<_, Infallible>(Response::new(answer))
        }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// What it does to a Pod: nothing more when the Pod has its mark.
fn operations(pod: &Value, patch: &[Value]) -> Value {
    let mut annotations = pod["metadata"]["annotations"].clone();
    if annotations[MARK].is_string() {
        return json!([]);
    }
    annotations[MARK] = json!("true");
    let mark = json!({ "op": "add", "path": "/metadata/annotations", "value": annotations });
    patch.iter().cloned().chain([mark]).collect()
}
