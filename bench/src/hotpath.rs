//! The hot path by itself, to be counted by callgrind: one connection whose requests and answers cost
//! nothing, served by the agent's own code or by hyper alone.
//!
//! What two runs with different counts differ by is what the requests between them cost: start and end
//! fall out.

mod replay;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::broker::Broker;
use agent::cache::{Cache, Policy};
use agent::credentials::Credentials;
use agent::exchange::{Exchange, ExchangeError};
use agent::identity::{KeySource, Settings, Verifier};
use agent::metrics::Metrics;
use agent::route::{Authority as _, Route};
use agent::tenants::Tenants;
use agent::workload::{Identity, PodUid, Token};
use anyhow::{Context as _, bail, ensure};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use shared::serve::{Connections, Limits, serve};
use tokio_util::sync::CancellationToken;

use self::replay::{Once, Replay};
use crate::contender::connection;
use crate::load::request;

/// What a run needs to know of the world: a token and whoever signed it.
#[derive(Serialize, Deserialize)]
pub struct World {
    /// The issuer of the token.
    pub issuer: String,
    /// The audience of the token.
    pub audience: String,
    /// The uid of its Pod.
    pub pod_uid: String,
    /// The token. Of the stand-in's issuer, good for nothing else.
    pub token: String,
    /// The issuer's keys.
    pub keys: serde_json::Value,
}

/// Serves `count` requests by `server`, `agent` or `bare`, and ends.
///
/// # Errors
/// When an answer is missing, or the world cannot be read.
pub fn run(server: &str, count: usize, world: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(world).with_context(|| format!("{}", world.display()))?;
    let read: World = serde_json::from_slice(&text)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let World { token, .. } = &read;
    let (replay, written) = Replay::new(request(token).into(), count);
    match server {
        "agent" => runtime.block_on(by_agent(replay, &read, world))?,
        // The end comes behind the last request at once, for which hyper has an error; the agent's own
        // code makes nothing of it either.
        "bare" => drop(runtime.block_on(connection(replay, credentials().body()))),
        other => bail!("there is no hot path `{other}`"),
    }
    let least = count.saturating_sub(1) * credentials().body().len();
    let bytes = written.bytes().context("a request was refused")?;
    ensure!(
        bytes > least,
        "the answers to {count} requests have {bytes} bytes, not even {least}"
    );
    Ok(())
}

async fn by_agent(replay: Replay, world: &World, place: &Path) -> anyhow::Result<()> {
    let metrics = Metrics::new(&prometheus::Registry::new())?;
    let keys = place.with_extension("keys");
    std::fs::write(&keys, world.keys.to_string())?;
    let settings = Settings {
        issuer: Some(world.issuer.clone()),
        audiences: vec![world.audience.clone()],
        ..Settings::default()
    };
    let clock = Clock::system();
    let verifier = Verifier::new(
        settings,
        KeySource::File(keys),
        clock.clone(),
        metrics.clone(),
    )?;
    let cache = Cache::new(Minted, Policy::default(), clock, metrics.clone());
    let broker = Arc::new(Broker::new(verifier, cache));
    let shutdown = CancellationToken::new();
    let keeping = tokio::spawn({
        let (broker, shutdown) = (Arc::clone(&broker), shutdown.clone());
        async move { broker.verifier().keep_keys(shutdown).await }
    });
    let pool = Connections::new(16, metrics.serving());
    let tenants = Arc::new(Tenants::of(PodUid::new(&world.pod_uid)));
    // Every request that is counted finds its token and its key in memory.
    let first = broker.credentials(Some(world.token.as_bytes()), Some(&tenants));
    first.await.context("failed to have a first key")?;
    let route = Route::new(broker, metrics, None);
    let service = move |request| {
        let (route, tenants) = (route.clone(), Arc::clone(&tenants));
        async move { route.answer(request, Some(&tenants)).await }
    };
    // Its listener gives the one connection and asks for the end when that has ended.
    let once = Once::new(replay, shutdown.clone());
    serve(once, Limits::default(), pool, service, shutdown).await;
    keeping.abort();
    Ok(())
}

/// A key as long as CoreWeave's own, good for some hours.
fn credentials() -> Credentials {
    let secret = SecretString::from("s".repeat(40));
    let expires_at = Clock::system().now() + Duration::from_hours(6);
    let id = format!("CW{}", "I".repeat(18));
    Credentials::new(id, &secret, &SecretString::default(), expires_at)
}

/// Gives the same key to everybody, at once.
struct Minted;

impl Exchange for Minted {
    async fn exchange(&self, _: &Identity, _: &Token) -> Result<Credentials, ExchangeError> {
        Ok(credentials())
    }
}
