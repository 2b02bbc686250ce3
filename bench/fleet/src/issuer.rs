//! The simulated issuer: a rate limit, a delay, an outage, and what it was asked when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent::credentials::Credentials;
use agent::exchange::{Exchange, ExchangeError};
use agent::workload::{Identity, Token};
use jiff::SignedDuration;
use secrecy::SecretString;
use shared::clock::Clock;
use tokio::time::{Instant, sleep};

/// What one exchange takes.
const TAKES: Duration = Duration::from_millis(120);
/// What keys live.
const LIFE: SignedDuration = SignedDuration::from_hours(6);

/// What arrived in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Exchanges that minted a key.
    pub minted: u32,
    /// Exchanges that got a 429.
    pub throttled: u32,
    /// Connections that found nobody.
    pub unreached: u32,
}

impl Second {
    /// What the issuer had to answer.
    pub const fn answered(self) -> u32 {
        self.minted + self.throttled
    }
}

/// The issuer of a fleet. A cheap clone.
#[derive(Clone, Debug)]
pub struct Issuer {
    state: Arc<Mutex<State>>,
    limit: f64,
    burst: f64,
    begun: Instant,
    clock: Clock,
}

#[derive(Debug, Default)]
struct State {
    is_away: bool,
    seconds: Vec<Second>,
    minted: u64,
    /// Exchanges that it would take at once, when it was last asked, and when that was.
    level: f64,
    asked: Duration,
}

impl Issuer {
    /// Takes `limit` exchanges each second in the long run, and `burst` at once.
    pub fn new(limit: u32, burst: u32, clock: Clock) -> Self {
        Self {
            state: Arc::default(),
            limit: limit.into(),
            burst: burst.into(),
            begun: Instant::now(),
            clock,
        }
    }

    /// Is not reached any more, or is again.
    pub fn away(&self, is_away: bool) {
        self.state().is_away = is_away;
    }

    /// Every second so far in which there was something.
    pub fn seconds(&self) -> Vec<Second> {
        self.state().seconds.clone()
    }

    /// How many keys it has minted.
    pub fn minted(&self) -> u64 {
        self.state().minted
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and decides it.
    fn decide(&self) -> Result<u64, ExchangeError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let elapsed = self.begun.elapsed();
        let filled = elapsed.saturating_sub(state.asked).as_secs_f64() * self.limit;
        state.level = (state.level + filled).min(self.burst);
        state.asked = elapsed;
        let now = usize::try_from(elapsed.as_secs()).unwrap_or(usize::MAX);
        if state.seconds.len() <= now {
            state.seconds.resize(now + 1, Second::default());
        }
        let Some(second) = state.seconds.last_mut() else {
            return Ok(0);
        };
        if state.is_away {
            second.unreached += 1;
            return Err(ExchangeError::Unavailable {
                retry_after: None,
                message: "no connection".to_owned(),
            });
        }
        if state.level < 1.0 {
            second.throttled += 1;
            return Err(ExchangeError::Throttled {
                retry_after: Some(Duration::from_secs(1)),
                message: "status 429".to_owned(),
            });
        }
        state.level -= 1.0;
        second.minted += 1;
        state.minted += 1;
        Ok(state.minted)
    }
}

impl Exchange for Issuer {
    async fn exchange(&self, _: &Identity, _: &Token) -> Result<Credentials, ExchangeError> {
        let decided = self.decide();
        sleep(TAKES).await;
        let secret = SecretString::from("secret");
        let id = format!("CWID{}", decided?);
        Ok(Credentials::new(
            id,
            &secret,
            &secret,
            self.clock.now() + LIFE,
        ))
    }
}
