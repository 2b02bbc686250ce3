//! The handle's verbs as JSON over HTTP, for `curl`.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Limited};
use hyper::{Request, Response, body::Incoming};
use s3s::Body;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    Behaviour, Part, Scope, Standin, TlsMode, TokenSpec,
    api::reply,
    serve::{Handler, Listener},
};

/// A running control API; it ends when dropped.
pub struct Control(Listener);

impl Control {
    /// Serves the control API on a unix socket.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn unix(standin: Standin, path: &Path) -> Result<Self> {
        Listener::unix(path, Arc::new(Verbs(standin))).map(Self)
    }

    /// Serves the control API on TCP.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn tcp(standin: Standin, addr: SocketAddr) -> Result<Self> {
        Listener::tcp(addr, false, Arc::new(Verbs(standin)))
            .await
            .map(Self)
    }

    /// The bound address; `None` for a unix socket.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.0.addr()
    }
}

#[derive(Deserialize)]
struct Behave {
    #[serde(default)]
    scope: Scope,
    behaviour: Behaviour,
    calls: Option<u64>,
}

#[derive(Deserialize)]
struct Grant {
    principal: String,
    actions: Vec<String>,
}

#[derive(Deserialize)]
struct Federation {
    issuer: String,
    audience: String,
}

struct Verbs(Standin);

impl Handler for Verbs {
    async fn handle(&self, request: Request<Incoming>, _: CancellationToken) -> Response<Body> {
        match self.run(request).await {
            Ok(answer) => reply::status(200, answer.to_string(), None),
            Err(error) => reply::status(
                400,
                json!({"error": format!("{error:#}")}).to_string(),
                None,
            ),
        }
    }
}

impl Verbs {
    async fn run(&self, request: Request<Incoming>) -> Result<Value> {
        let standin = &self.0;
        let verb = format!("{} {}", request.method(), request.uri().path());
        let body = Limited::new(request.into_body(), 1 << 20)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("read the body: {error}"))?
            .to_bytes();
        match verb.as_str() {
            "GET /calls" => return Ok(json!(standin.calls())),
            "DELETE /calls" => standin.reset_calls(),
            "GET /s3-requests" => return Ok(json!(standin.s3_requests())),
            "DELETE /s3-requests" => standin.clear_s3_requests(),
            "POST /token" => {
                let spec: TokenSpec = if body.is_empty() {
                    TokenSpec::default()
                } else {
                    parse(&body)?
                };
                return Ok(json!({"token": standin.token(&spec)?}));
            }
            "POST /rotate" => standin.rotate_keys(parse(&body)?)?,
            "POST /behave" => {
                let Behave {
                    scope,
                    behaviour,
                    calls,
                } = parse(&body)?;
                match calls {
                    Some(calls) => standin.behave_next(calls, scope, behaviour),
                    None => standin.behave(scope, behaviour),
                }
            }
            "DELETE /behave" => standin.behave_normally(),
            "POST /tls" => standin.set_tls(parse::<TlsMode>(&body)?),
            "POST /stop" => standin.stop(parse::<Part>(&body)?).await,
            "POST /start" => standin.start_again(parse::<Part>(&body)?).await?,
            "POST /grant" => {
                let Grant { principal, actions } = parse(&body)?;
                let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
                standin.grant(&principal, &actions);
            }
            "POST /revoke" => standin.revoke(&parse::<String>(&body)?),
            "POST /register" => {
                let Federation { issuer, audience } = parse(&body)?;
                standin.register(&issuer, &audience);
            }
            "POST /unregister" => {
                let Federation { issuer, audience } = parse(&body)?;
                standin.unregister(&issuer, &audience);
            }
            other => bail!("no such verb: {other}"),
        }
        Ok(json!({}))
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).context("read the body as JSON")
}
