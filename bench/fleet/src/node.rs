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

use crate::issuer::Issuer;

/// Keys of 6 h are renewed when 3 h 18 min to 2 h 42 min are left; the rest is for the exchange.
const FRESH: Duration = Duration::from_mins(160);

/// Sweeps decide nothing while no wall clock jumps, and were half of what a simulated day cost.
const SWEEP: Duration = Duration::from_hours(1);

/// A node of the fleet.
pub struct Node {
    cache: Cache<Issuer>,
    pods: Vec<Arc<Workload>>,
    /// Pods that there have been.
    born: u64,
    number: usize,
    /// Every identity has had a key since the memory was last lost.
    has_started: bool,
    parts: Parts,
    rng: Rng,
    shutdown: CancellationToken,
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

/// What came of one request.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The Pod's node was starting when it asked: there was no memory to answer from.
    pub is_of_start: bool,
    /// The Pod has a key.
    pub is_there: bool,
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
        let (cache, shutdown) = start(&parts, &mut rng);
        let mut node = Self {
            cache,
            pods: Vec::new(),
            born: 0,
            number,
            has_started: false,
            parts,
            rng,
            shutdown,
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

    /// Replaces one Pod by a new one of the same identity, which asks: the old one has gone when that is answered.
    pub fn roll(&mut self) -> impl Future<Output = Answer> + Send + use<> {
        let is_of_start = !self.has_started();
        let account = self.rng.usize(..self.pods.len().max(1));
        let next = self.pod(account);
        let place = self.pods.get_mut(account);
        let old = place.map(|place| std::mem::replace(place, Arc::clone(&next)));
        let cache = self.cache.clone();
        async move {
            let is_there = cache.credentials(&next).await.is_ok();
            if let Some(old) = old {
                cache.forget(&old.pod.uid);
            }
            Answer {
                is_of_start,
                is_there,
            }
        }
    }

    /// Each Pod asks, and waits.
    pub fn ask_all(&mut self) -> impl Iterator<Item = impl Future<Output = Answer> + Send + use<>> {
        let is_of_start = !self.has_started();
        let cache = &self.cache;
        self.pods.iter().map(move |pod| {
            let (cache, pod) = (cache.clone(), Arc::clone(pod));
            async move {
                let is_there = cache.credentials(&pod).await.is_ok();
                Answer {
                    is_of_start,
                    is_there,
                }
            }
        })
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
        self.replace();
        self.cache.restore(&saved, true);
        Ok(())
    }

    /// The node restarts: nothing is left.
    pub fn lose(&mut self) {
        self.has_started = false;
        self.replace();
    }

    fn replace(&mut self) {
        self.shutdown.cancel();
        (self.cache, self.shutdown) = start(&self.parts, &mut self.rng);
    }

    /// How many identities have a key of which more is left than when renewals are due at the latest.
    pub fn fresh(&self) -> usize {
        let least = self.parts.clock.now() + FRESH;
        let view = self.cache.view();
        let keys = view.identities.iter().filter_map(|of| of.key.as_ref());
        keys.filter(|key| key.expires_at > least).count()
    }

    /// Whether every identity has had a key: from then on there is a memory to answer from.
    fn has_started(&mut self) -> bool {
        self.has_started = self.has_started || self.with_key() == self.pods.len();
        self.has_started
    }

    /// How many identities have a key.
    pub fn with_key(&self) -> usize {
        let view = self.cache.view();
        view.identities.iter().filter(|of| of.key.is_some()).count()
    }
}

/// Starts an agent, which works until the token is cancelled.
fn start(parts: &Parts, rng: &mut Rng) -> (Cache<Issuer>, CancellationToken) {
    let policy = Policy {
        seed: Some(rng.u64(..)),
        sweep_interval: SWEEP,
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
    // Only by its end do renewals end that are under way.
    drop(tokio::spawn(async move { keeper.keep(stop).await }));
    (cache, shutdown)
}

impl Asked {
    /// One more.
    pub const fn count(&mut self, is_answered: bool) {
        if is_answered {
            self.answered += 1;
        } else {
            self.failed += 1;
        }
    }
}
