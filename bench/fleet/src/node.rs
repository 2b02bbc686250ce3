//! One node: the agent's cache, and Pods that ask it.

use std::sync::Arc;
use std::time::Duration;

use agent::cache::{Cache, Policy, Saved};
use agent::metrics::Metrics;
use agent::workload::{Identity, Pod, PodUid, Token, Workload};
use anyhow::Context as _;
use fastrand::Rng;
use secrecy::SecretString;
use shared::clock::Clock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::issuer::Issuer;

/// Keys of 6 h are renewed when 3 h 18 min to 2 h 42 min are left; the rest is for the exchange.
const FRESH: Duration = Duration::from_mins(160);

/// A node of the fleet.
pub struct Node {
    cache: Cache<Issuer>,
    pods: Vec<Arc<Workload>>,
    /// Pods that there have been.
    born: u64,
    number: usize,
    parts: Parts,
    rng: Rng,
    shutdown: CancellationToken,
    keeping: AbortOnDropHandle<()>,
}

/// What nodes share.
#[derive(Clone)]
pub struct Parts {
    /// Whom they ask.
    pub issuer: Issuer,
    /// The time.
    pub clock: Clock,
    /// One for all: a registry for each would take more memory than the caches.
    pub metrics: Metrics,
}

/// What Pods got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Requests that were answered with a key.
    pub answered: u64,
    /// Requests that got none.
    pub failed: u64,
}

impl Node {
    /// Makes the node with one Pod for each identity, and nobody has asked yet.
    pub fn new(number: usize, identities: usize, parts: Parts, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_add(u64::try_from(number).unwrap_or_default()));
        let (cache, shutdown, keeping) = start(&parts, &mut rng);
        let mut node = Self {
            cache,
            pods: Vec::new(),
            born: 0,
            number,
            parts,
            rng,
            shutdown,
            keeping,
        };
        node.pods = (0..identities).map(|account| node.pod(account)).collect();
        node
    }

    fn pod(&mut self, account: usize) -> Arc<Workload> {
        self.born += 1;
        let subject = format!("system:serviceaccount:ns:sa-{account}");
        let uid = format!("{}-{}", self.number, self.born);
        Arc::new(Workload {
            identity: Identity::new("https://issuer.example", &subject, "aud"),
            pod: Pod {
                uid: PodUid::new(&uid),
                name: uid.clone(),
                namespace: "ns".to_owned(),
                service_account: format!("sa-{account}"),
            },
            token: Token::new(SecretString::from(uid)),
            token_expires_at: self.parts.clock.now() + Duration::from_hours(24),
        })
    }

    /// Replaces one Pod by a new one of the same identity: it enrols before the old one has gone.
    ///
    /// It asks at once, and so says what it got.
    pub async fn roll(&mut self) -> Asked {
        let account = self.rng.usize(..self.pods.len().max(1));
        let next = self.pod(account);
        let asked = self.ask(&next).await;
        if let Some(place) = self.pods.get_mut(account) {
            let old = std::mem::replace(place, next);
            self.cache.forget(&old.pod.uid);
        }
        asked
    }

    /// All Pods ask at once, and wait.
    pub async fn ask_all(&self) -> Asked {
        let mut running = tokio::task::JoinSet::new();
        for pod in &self.pods {
            let (cache, pod) = (self.cache.clone(), Arc::clone(pod));
            running.spawn(async move { cache.credentials(&pod).await.is_ok() });
        }
        let mut asked = Asked::default();
        while let Some(ended) = running.join_next().await {
            asked += Asked::of(ended.unwrap_or(false));
        }
        asked
    }

    async fn ask(&self, pod: &Arc<Workload>) -> Asked {
        Asked::of(self.cache.credentials(pod).await.is_ok())
    }

    /// The agent is replaced: the next one takes its memory over.
    ///
    /// # Errors
    /// When the memory cannot be written and read.
    pub fn upgrade(&mut self) -> anyhow::Result<()> {
        let bytes = self
            .cache
            .save(|saved| serde_json::to_vec(saved))
            .context("failed to write a cache")?;
        let saved: Saved<'_> = serde_json::from_slice(&bytes).context("failed to read a cache")?;
        self.lose();
        self.cache.restore(&saved, true);
        Ok(())
    }

    /// The node restarts: nothing is left.
    pub fn lose(&mut self) {
        self.shutdown.cancel();
        (self.cache, self.shutdown, self.keeping) = start(&self.parts, &mut self.rng);
    }

    /// How many identities have a key of which more is left than when renewals are due at the latest.
    pub fn fresh(&self) -> usize {
        let least = self.parts.clock.now() + FRESH;
        let view = self.cache.view();
        let keys = view.identities.iter().filter_map(|of| of.key.as_ref());
        keys.filter(|key| key.expires_at > least).count()
    }
}

impl Node {
    /// How many identities have a key.
    pub fn with_key(&self) -> usize {
        let view = self.cache.view();
        view.identities.iter().filter(|of| of.key.is_some()).count()
    }
}

fn start(
    parts: &Parts,
    rng: &mut Rng,
) -> (Cache<Issuer>, CancellationToken, AbortOnDropHandle<()>) {
    let policy = Policy {
        seed: Some(rng.u64(..)),
        ..Policy::default()
    };
    let Parts {
        issuer,
        clock,
        metrics,
    } = parts.clone();
    let cache = Cache::new(issuer, policy, clock, metrics);
    let (shutdown, keeper) = (CancellationToken::new(), cache.clone());
    let stop = shutdown.clone();
    let keeping = tokio::spawn(async move { keeper.keep(stop).await });
    (cache, shutdown, AbortOnDropHandle::new(keeping))
}

impl Asked {
    const fn of(is_answered: bool) -> Self {
        Self {
            answered: if is_answered { 1 } else { 0 },
            failed: if is_answered { 0 } else { 1 },
        }
    }
}

impl std::ops::AddAssign for Asked {
    fn add_assign(&mut self, more: Self) {
        self.answered += more.answered;
        self.failed += more.failed;
    }
}
