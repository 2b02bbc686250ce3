//! The handle on a running stand-in.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    Behaviour, Calls, Options, S3Request, Scope, TlsMode, TokenSpec,
    api::ApiHandler,
    behaviour::Rules,
    calls::CallLog,
    issuer::{Issuer, IssuerHandler},
    keys::Keys,
    pki::Pki,
    policy::Policy,
    s3::{Records, S3Handler},
    serve::Listener,
};

/// What the handlers share.
pub(crate) struct State {
    pub(crate) org_id: String,
    pub(crate) issuer: Issuer,
    pub(crate) pki: Pki,
    pub(crate) untrusted: Pki,
    pub(crate) keys: Keys,
    pub(crate) policy: Policy,
    pub(crate) rules: Rules,
    pub(crate) calls: CallLog,
    pub(crate) s3: Records,
    tls: Mutex<TlsMode>,
}

impl State {
    /// How new connections to the API are treated.
    pub(crate) fn tls_mode(&self) -> TlsMode {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// CoreWeave's API.
    Api,
    /// S3.
    S3,
    /// The issuer.
    Issuer,
}

struct Shared {
    state: Arc<State>,
    s3_handler: Arc<S3Handler>,
    issuer_tls: bool,
    api: Slot,
    s3: Slot,
    issuer: Slot,
}

/// A server's address, and its listener while it is open.
struct Slot {
    addr: SocketAddr,
    listener: tokio::sync::Mutex<Option<Listener>>,
}

impl Slot {
    fn new(listener: Listener) -> Result<Self> {
        Ok(Self {
            addr: listener.addr().context("the listener has no address")?,
            listener: tokio::sync::Mutex::new(Some(listener)),
        })
    }
}

/// A running stand-in. Clones are handles on the same one; it ends with the last handle.
#[derive(Clone)]
pub struct Standin(Arc<Shared>);

impl Standin {
    /// Starts all three servers. Nothing is granted yet; the issuer is registered with its own
    /// URL and `options.audiences` as audiences.
    ///
    /// # Errors
    /// An address cannot be bound, a name is no certificate name, or the directory of buckets
    /// cannot be used.
    pub async fn start(options: Options) -> Result<Self> {
        // Bound first, for the port in the issuer URL; served only once the state is there.
        let reserved = tokio::net::TcpListener::bind(options.issuer_listen)
            .await
            .with_context(|| format!("listen on {}", options.issuer_listen))?;
        let issuer_addr = reserved.local_addr()?;
        drop(reserved);
        let scheme = if options.issuer_tls { "https" } else { "http" };
        let issuer_url = options
            .issuer_url
            .clone()
            .unwrap_or_else(|| format!("{scheme}://{issuer_addr}"));
        let state = Arc::new(State {
            org_id: options.org_id.clone(),
            issuer: Issuer::new(issuer_url.clone())?,
            pki: Pki::generate(&options.names)?,
            untrusted: Pki::generate(&options.names)?,
            keys: Keys::default(),
            policy: Policy::default(),
            rules: Rules::default(),
            calls: CallLog::default(),
            s3: Records::default(),
            tls: Mutex::default(),
        });
        state.policy.register(&issuer_url, &issuer_url);
        for audience in &options.audiences {
            state.policy.register(&issuer_url, audience);
        }
        let api = Arc::new(ApiHandler(state.clone()));
        let issuer = Arc::new(IssuerHandler(state.clone()));
        let s3_handler = Arc::new(S3Handler::new(state.clone(), &options)?);
        let issuer = Listener::tcp(issuer_addr, options.issuer_tls, issuer).await?;
        Ok(Self(Arc::new(Shared {
            api: Slot::new(Listener::tcp(options.api_listen, true, api).await?)?,
            s3: Slot::new(Listener::tcp(options.s3_listen, false, s3_handler.clone()).await?)?,
            issuer: Slot::new(issuer)?,
            issuer_tls: options.issuer_tls,
            s3_handler,
            state,
        })))
    }

    /// Where a part listens, or listened until it was stopped.
    pub fn addr(&self, part: Part) -> SocketAddr {
        self.slot(part).addr
    }

    /// The API's base URL.
    pub fn api_url(&self) -> String {
        format!("https://{}", self.0.api.addr)
    }

    /// The S3 endpoint for path addressing.
    pub fn s3_url(&self) -> String {
        format!("http://{}", self.0.s3.addr)
    }

    /// The issuer URL, as in tokens.
    pub fn issuer_url(&self) -> &str {
        self.0.state.issuer.url()
    }

    /// The organisation whose exchanges are accepted.
    pub fn org_id(&self) -> &str {
        &self.0.state.org_id
    }

    /// The certificate authority of the API and the issuer, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.0.state.pki.ca_pem
    }

    /// The authority of [`TlsMode::OtherCertificate`], PEM.
    pub fn other_ca_pem(&self) -> &str {
        &self.0.state.untrusted.ca_pem
    }

    /// The principal that policies see for a `ServiceAccount`.
    pub fn principal(&self, namespace: &str, service_account: &str) -> String {
        let issuer = self.issuer_url();
        format!("role/{issuer}:system:serviceaccount:{namespace}:{service_account}")
    }

    /// The issuer's public keys, as a JSON Web Key Set.
    pub fn keys(&self) -> serde_json::Value {
        serde_json::json!(self.0.state.issuer.jwks())
    }

    /// Makes a service account token.
    ///
    /// # Errors
    /// The token cannot be signed.
    pub fn token(&self, spec: &TokenSpec) -> Result<String> {
        self.0.state.issuer.token(spec)
    }

    /// Signs with new keys from now on; `keep_old` goes on publishing the old ones.
    ///
    /// # Errors
    /// Keys cannot be generated.
    pub fn rotate_keys(&self, keep_old: bool) -> Result<()> {
        self.0.state.issuer.rotate(keep_old)
    }

    /// Accepts tokens of an issuer elsewhere, as `CoreWeave` does once it is registered: `keys` is
    /// its JWKS document.
    ///
    /// # Errors
    /// `keys` is none.
    pub fn federate(&self, issuer: &str, audience: &str, keys: &str) -> Result<()> {
        let keys = serde_json::from_str(keys).context("read the issuer's keys")?;
        self.0.state.issuer.accept(keys);
        self.register(issuer, audience);
        Ok(())
    }

    /// Copies the calls so far.
    pub fn calls(&self) -> Calls {
        self.0.state.calls.snapshot()
    }

    /// Forgets the calls so far.
    pub fn reset_calls(&self) {
        self.0.state.calls.reset();
    }

    /// Adds a behaviour for every call in `scope`, until changed.
    pub fn behave(&self, scope: Scope, behaviour: Behaviour) {
        self.0.state.rules.add(scope, behaviour, None);
    }

    /// Adds a behaviour for the next `calls` calls in `scope`.
    pub fn behave_next(&self, calls: u64, scope: Scope, behaviour: Behaviour) {
        self.0.state.rules.add(scope, behaviour, Some(calls));
    }

    /// Removes every behaviour.
    pub fn behave_normally(&self) {
        self.0.state.rules.clear();
    }

    /// Sets how new connections to the API are treated; stop and start it to drop the old ones.
    pub fn set_tls(&self, mode: TlsMode) {
        *self
            .0
            .state
            .tls
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// Closes a part: connections are dropped, new ones refused. Does nothing when closed.
    pub async fn stop(&self, part: Part) {
        let listener = self.slot(part).listener.lock().await.take();
        if let Some(listener) = listener {
            listener.close().await;
        }
    }

    /// Opens a part again on its old port. Does nothing when open.
    ///
    /// # Errors
    /// The port has been taken by somebody else.
    pub async fn start_again(&self, part: Part) -> Result<()> {
        let slot = self.slot(part);
        let mut listener = slot.listener.lock().await;
        if listener.is_some() {
            return Ok(());
        }
        let state = self.0.state.clone();
        let tls = self.0.issuer_tls;
        *listener = Some(match part {
            Part::Api => Listener::tcp(slot.addr, true, Arc::new(ApiHandler(state))).await?,
            Part::S3 => Listener::tcp(slot.addr, false, self.0.s3_handler.clone()).await?,
            Part::Issuer => Listener::tcp(slot.addr, tls, Arc::new(IssuerHandler(state))).await?,
        });
        Ok(())
    }

    /// Grants `actions` (exact, `s3:*` or `*`) to `principal`, or to everyone with `*`.
    pub fn grant(&self, principal: &str, actions: &[&str]) {
        self.0.state.policy.grant(principal, actions);
    }

    /// Takes back all that was granted to `principal`.
    pub fn revoke(&self, principal: &str) {
        self.0.state.policy.revoke(principal);
    }

    /// Registers an audience for an issuer; both are compared exactly.
    pub fn register(&self, issuer: &str, audience: &str) {
        self.0.state.policy.register(issuer, audience);
    }

    /// Undoes [`Standin::register`].
    pub fn unregister(&self, issuer: &str, audience: &str) {
        self.0.state.policy.unregister(issuer, audience);
    }

    /// Copies the S3 requests so far, oldest first, at most the newest 100,000.
    pub fn s3_requests(&self) -> Vec<S3Request> {
        self.0.state.s3.snapshot()
    }

    /// Forgets the S3 requests so far.
    pub fn clear_s3_requests(&self) {
        self.0.state.s3.clear();
    }

    /// Closes everything and waits until it is closed.
    pub async fn shutdown(&self) {
        for part in [Part::Api, Part::S3, Part::Issuer] {
            self.stop(part).await;
        }
    }

    /// Mints a key without an exchange.
    #[cfg(test)]
    pub(crate) fn mint_for_test(
        &self,
        principal: &str,
        lifetime: Option<std::time::Duration>,
        with_session_token: bool,
    ) -> crate::keys::Key {
        let keys = &self.0.state.keys;
        keys.mint(principal, lifetime, with_session_token)
    }

    fn slot(&self, part: Part) -> &Slot {
        match part {
            Part::Api => &self.0.api,
            Part::S3 => &self.0.s3,
            Part::Issuer => &self.0.issuer,
        }
    }
}

#[cfg(test)]
mod tests;
