//! The issuer's two documents over HTTP.

use std::sync::Arc;

use hyper::{Request, Response, body::Incoming, header::ACCEPT};
use rustls::ServerConfig;
use s3s::Body;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    Endpoint,
    api::{Fate, Shape, reply},
    serve::Handler,
    standin::State,
};

/// Serves discovery and JWKS.
pub(crate) struct IssuerHandler(pub(crate) Arc<State>);

impl Handler for IssuerHandler {
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        Some(self.0.pki.server.clone())
    }

    async fn handle(&self, request: Request<Incoming>, close: CancellationToken) -> Response<Body> {
        let state = &self.0;
        let issuer = &state.issuer;
        let (endpoint, document) = match request.uri().path() {
            "/.well-known/openid-configuration" => (
                Endpoint::Discovery,
                json!({
                    "issuer": issuer.url(),
                    "jwks_uri": format!("{}/openid/v1/jwks", issuer.url()),
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256", "ES256"],
                }),
            ),
            "/openid/v1/jwks" if !takes_keys(&request) => {
                return reply::status(406, "406: Not Acceptable", None);
            }
            "/openid/v1/jwks" => (Endpoint::Jwks, json!(issuer.jwks())),
            _ => return reply::status(404, "no such document", None),
        };
        state.calls.note(endpoint, None);
        let rules = state.rules.take(endpoint, None);
        match Shape::decide(rules, endpoint, &close).await {
            Fate::Answer(response) => response,
            Fate::Proceed(shape) => shape.finish(document, &close).await,
        }
    }
}

/// Whether the request takes a key set, as kube-apiserver sees it: `application/json` is not
/// enough.
fn takes_keys(request: &Request<Incoming>) -> bool {
    let Some(accepted) = request.headers().get(ACCEPT) else {
        return true;
    };
    let accepted = accepted.to_str().unwrap_or_default();
    ["application/jwk-set+json", "*/*"]
        .iter()
        .any(|kind| accepted.contains(kind))
}
