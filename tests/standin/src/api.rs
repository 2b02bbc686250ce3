//! CoreWeave's API: the two endpoints that exchange a token for an access key.

mod exchange;
pub(crate) mod reply;
mod shape;

use std::sync::Arc;

use http_body_util::{BodyExt as _, Limited};
use hyper::{Method, Request, Response, body::Incoming, header::AUTHORIZATION};
use rustls::ServerConfig;
use s3s::Body;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::exchange::Asked;
pub(crate) use self::shape::{Fate, Shape};
use crate::{Endpoint, TlsMode, serve::Handler, standin::State};

/// Path of the POST endpoint; the GET endpoint adds the organisation.
const PATH: &str = "/v1/cwobject/temporary-credentials/oidc";
/// The largest body that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Serves the exchange.
pub(crate) struct ApiHandler(pub(crate) Arc<State>);

impl Handler for ApiHandler {
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        match self.0.tls_mode() {
            TlsMode::Normal => Some(self.0.pki.server.clone()),
            TlsMode::OtherCertificate => Some(self.0.untrusted.server.clone()),
            TlsMode::Garbage => None,
        }
    }

    async fn handle(&self, request: Request<Incoming>, close: CancellationToken) -> Response<Body> {
        let state = &self.0;
        let (parts, body) = request.into_parts();
        let rest = parts.uri.path().strip_prefix(PATH);
        let endpoint = match rest {
            Some("") if parts.method == Method::POST => Endpoint::Post,
            Some(rest) if rest.starts_with('/') && parts.method == Method::GET => Endpoint::Get,
            _ => Endpoint::Other,
        };
        if state.rules.cuts_unread(endpoint) {
            state.calls.note(endpoint, None);
            return shape::cut(&close).await;
        }
        let asked = match endpoint {
            Endpoint::Post => match Limited::new(body, MAX_BODY).collect().await {
                Ok(body) => serde_json::from_slice(&body.to_bytes())
                    .map(Asked::Post)
                    .map_err(|error| error.to_string()),
                Err(error) => Err(format!("the body cannot be read: {error}")),
            },
            _ => Ok(Asked::Get {
                org_id: rest.unwrap_or_default().trim_start_matches('/').to_owned(),
                token: parts
                    .headers
                    .get(AUTHORIZATION)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_owned(),
            }),
        };
        let identity = asked.as_ref().ok().and_then(|asked| claimed(asked.token()));
        let rules = state.rules.take(endpoint, identity.as_deref());
        state.calls.note(endpoint, identity);
        let shape = match Shape::decide(rules, endpoint, &close).await {
            Fate::Answer(response) => return response,
            Fate::Proceed(shape) => shape,
        };
        if endpoint == Endpoint::Other {
            return reply::error(5, "Not Found", None);
        }
        let answered = asked
            .map_err(|message| exchange::Refusal { code: 3, message })
            .and_then(|asked| exchange::exchange(state, &asked, &shape));
        match answered {
            Ok(document) => shape.finish(document, &close).await,
            Err(refusal) => reply::error(refusal.code, &refusal.message, None),
        }
    }
}

/// The `sub` that a token claims, not verified.
fn claimed(token: &str) -> Option<String> {
    let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
    Some(claims.get("sub")?.as_str()?.to_owned())
}
