//! An issuer that answers by script and writes down when it was asked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::time::{Instant, sleep};

use super::{Cache, Policy, Served};
use crate::credentials::Credentials;
use crate::error::Error;
use crate::exchange::{Exchange, ExchangeError};
use crate::metrics::{Metrics, Outcome};
use crate::workload::{Identity, Pod, PodUid, Token, Workload};
use shared::clock::Clock;

pub(super) const HOUR: u64 = 3600;

/// What the issuer does with a call.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Mints a key of this many seconds.
    Mint(u64),
    /// Mints one that expired a minute ago.
    MintDead,
    Fail(ExchangeError),
    Panic,
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) at: Duration,
    pub(super) token: String,
}

struct Stage {
    usual: Act,
    next: VecDeque<Act>,
    takes: Duration,
    calls: Vec<Call>,
}

#[derive(Clone)]
pub(super) struct Script {
    stage: Arc<Mutex<Stage>>,
    started: Instant,
    clock: Clock,
    minted: Arc<AtomicUsize>,
}

impl Script {
    /// What every call gets from now on that `next` has nothing for.
    pub(super) fn usually(&self, act: Act) {
        self.stage.lock().unwrap().usual = act;
    }

    pub(super) fn next(&self, acts: impl IntoIterator<Item = Act>) {
        self.stage.lock().unwrap().next.extend(acts);
    }

    pub(super) fn takes(&self, time: Duration) {
        self.stage.lock().unwrap().takes = time;
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.stage.lock().unwrap().calls.clone()
    }

    pub(super) fn count(&self) -> usize {
        self.stage.lock().unwrap().calls.len()
    }

    /// From each call to the next.
    pub(super) fn gaps(&self) -> Vec<Duration> {
        self.calls()
            .windows(2)
            .map(|pair| pair[1].at.saturating_sub(pair[0].at))
            .collect()
    }
}

impl Exchange for Script {
    async fn exchange(&self, _: &Identity, token: &Token) -> Result<Credentials, ExchangeError> {
        let (act, takes) = {
            let mut stage = self.stage.lock().unwrap();
            stage.calls.push(Call {
                at: self.started.elapsed(),
                token: token.expose().to_owned(),
            });
            let act = stage
                .next
                .pop_front()
                .unwrap_or_else(|| stage.usual.clone());
            (act, stage.takes)
        };
        sleep(takes).await;
        let life = match act {
            Act::Mint(life) => i64::try_from(life).unwrap(),
            Act::MintDead => -60,
            Act::Fail(error) => return Err(error),
            Act::Panic => panic!("scripted"),
        };
        let number = self.minted.fetch_add(1, Ordering::Relaxed) + 1;
        let secret = SecretString::from("secret");
        let expires_at = self.clock.now() + SignedDuration::from_secs(life);
        Ok(Credentials::new(
            format!("KEY{number}"),
            &secret,
            &secret,
            expires_at,
        ))
    }
}

pub(super) fn unavailable() -> ExchangeError {
    let message = "no connection".to_owned();
    ExchangeError::Unavailable {
        retry_after: None,
        message,
    }
}

pub(super) fn uncertain() -> ExchangeError {
    let message = "status 500".to_owned();
    ExchangeError::Uncertain { message }
}

pub(super) fn throttled(seconds: u64) -> ExchangeError {
    let retry_after = Some(Duration::from_secs(seconds));
    let message = "status 429".to_owned();
    ExchangeError::Throttled {
        retry_after,
        message,
    }
}

pub(super) fn refused(status: u16) -> ExchangeError {
    let message = format!("status {status}");
    ExchangeError::Refused { status, message }
}

pub(super) fn workload(
    account: &str,
    pod: &str,
    token: &str,
    token_expires_at: Timestamp,
) -> Arc<Workload> {
    let subject = format!("system:serviceaccount:ns:{account}");
    Arc::new(Workload {
        identity: Identity::new("https://issuer.example", &subject, "aud"),
        pod: Pod {
            uid: PodUid::new(pod),
            name: pod.to_owned(),
            namespace: "ns".to_owned(),
            service_account: account.to_owned(),
        },
        token: Token::new(SecretString::from(token)),
        token_expires_at,
    })
}

/// A cache before a scripted issuer, under tokio's paused time.
pub(super) struct Node {
    pub(super) cache: Cache<Script>,
    pub(super) script: Script,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

impl Node {
    /// The issuer mints 6-hour keys in 100 ms.
    pub(super) fn new() -> Self {
        Self::with(Policy::default())
    }

    pub(super) fn with(mut policy: Policy) -> Self {
        policy.seed = Some(1);
        let clock = Clock::anchored(Timestamp::from_second(1_800_000_000).unwrap());
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let script = Script {
            stage: Arc::new(Mutex::new(Stage {
                usual: Act::Mint(6 * HOUR),
                next: VecDeque::new(),
                takes: Duration::from_millis(100),
                calls: Vec::new(),
            })),
            started: Instant::now(),
            clock: clock.clone(),
            minted: Arc::default(),
        };
        let cache = Cache::new(script.clone(), policy, clock.clone(), metrics.clone());
        Self {
            cache,
            script,
            clock,
            metrics,
        }
    }

    /// A Pod with a token of a week.
    pub(super) fn pod(&self, account: &str, pod: &str) -> Arc<Workload> {
        self.pod_for(account, pod, &format!("token of {pod}"), 168 * HOUR)
    }

    pub(super) fn pod_for(
        &self,
        account: &str,
        pod: &str,
        token: &str,
        life: u64,
    ) -> Arc<Workload> {
        workload(
            account,
            pod,
            token,
            self.clock.now() + Duration::from_secs(life),
        )
    }

    pub(super) async fn ask(&self, workload: &Arc<Workload>) -> Result<Served, Error> {
        self.cache.credentials(workload).await
    }

    /// Asks, and expects this key in this way, in less than a millisecond of paused time if a hit.
    pub(super) async fn expect(&self, workload: &Arc<Workload>, key: &str, outcome: Outcome) {
        let asked = Instant::now();
        let served = self.ask(workload).await.unwrap();
        assert_eq!(
            (served.credentials.access_key_id(), served.outcome),
            (key, outcome)
        );
        assert!(served.credentials.expires_at() > self.clock.now());
        assert!(outcome != Outcome::Hit || asked.elapsed().is_zero());
    }

    /// Asks in a task of its own.
    pub(super) fn spawn(
        &self,
        workload: &Arc<Workload>,
    ) -> tokio::task::JoinHandle<(Result<Served, Error>, Duration)> {
        let (cache, workload) = (self.cache.clone(), Arc::clone(workload));
        let asked = Instant::now();
        tokio::spawn(async move { (cache.credentials(&workload).await, asked.elapsed()) })
    }
}
