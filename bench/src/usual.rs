//! What users would do without the agent, each written as a small model: it makes the same calls to
//! the same API, and leaves out what its programs cost.

use std::sync::Arc;
use std::time::Duration;

use agent::credentials::Credentials;
use agent::exchange::coreweave::CoreWeave;
use agent::exchange::{Exchange as _, ExchangeError};
use agent::workload::{Identity, Token};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// AWS SDKs in their standard mode: three attempts, and up to 1, 2, 4… seconds between them, at random
/// (AWS SDKs and Tools Reference Guide, "Retry behavior").
const ATTEMPTS: u32 = 3;
/// The longest pause between two attempts of those.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// A node agent tries again for as long as a client may wait.
const PATIENCE: Duration = Duration::from_mins(1);

/// How processes come by keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usual {
    /// Each process exchanges by itself, as today.
    EachProcess,
    /// A `credential_process` with a file in each Pod that one process writes and all read.
    FileInEachPod,
    /// A node agent that keeps keys by token, which is one exchange for each Pod, on demand.
    AgentByToken,
}

impl Usual {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EachProcess, Self::FileInEachPod, Self::AgentByToken];

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EachProcess => "model: every process by itself",
            Self::FileInEachPod => "model: a file in each Pod",
            Self::AgentByToken => "model: an agent that keeps keys by token",
        }
    }
}

/// A Pod whose processes come by keys in a usual way.
#[derive(Clone)]
pub struct UsualPod {
    way: Usual,
    exchange: Arc<CoreWeave>,
    identity: Identity,
    token: Token,
    kept: Arc<Mutex<Option<Credentials>>>,
}

impl UsualPod {
    /// A Pod that has nothing yet.
    pub fn new(way: Usual, exchange: Arc<CoreWeave>, identity: Identity, token: Token) -> Self {
        let kept = Arc::default();
        Self {
            way,
            exchange,
            identity,
            token,
            kept,
        }
    }

    /// One process of it starts; whether it got a key.
    ///
    /// # Cancel safety
    /// Not safe, as an exchange is not.
    pub async fn process(&self) -> bool {
        match self.way {
            Usual::EachProcess => self.as_sdk().await.is_some(),
            Usual::FileInEachPod => self.kept(Self::as_sdk).await,
            Usual::AgentByToken => self.kept(Self::as_agent).await,
        }
    }

    /// What another process of the Pod has got, or what `get` gives.
    async fn kept(&self, get: impl AsyncFnOnce(&Self) -> Option<Credentials>) -> bool {
        let mut kept = self.kept.lock().await;
        if kept.is_none() {
            *kept = get(self).await;
        }
        kept.is_some()
    }

    async fn as_sdk(&self) -> Option<Credentials> {
        let mut longest = Duration::from_secs(1);
        for attempt in 1..=ATTEMPTS {
            match self.exchange.exchange(&self.identity, &self.token).await {
                Ok(credentials) => return Some(credentials),
                Err(ExchangeError::Refused { .. }) => return None,
                Err(_) if attempt < ATTEMPTS => {
                    sleep(longest.min(LONGEST_PAUSE).mul_f64(fastrand::f64())).await;
                    longest *= 2;
                }
                Err(_) => {}
            }
        }
        None
    }

    async fn as_agent(&self) -> Option<Credentials> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            match self.exchange.exchange(&self.identity, &self.token).await {
                Ok(credentials) => return Some(credentials),
                Err(ExchangeError::Refused { .. }) => return None,
                Err(_) => sleep(Duration::from_secs(1).mul_f64(0.5 + fastrand::f64())).await,
            }
        }
        None
    }
}
