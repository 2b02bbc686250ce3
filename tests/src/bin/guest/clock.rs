//! The machine's clock, set as an administrator or NTP sets it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::time::{ClockId, clock_gettime, clock_settime};
use serde::Deserialize;
use tests::daemon::Daemon;
use tests::keeper::Keeper;
use tests::node::Node;
use tests::pod::Pod;
use tests::wait;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::scenario::{PATIENCE, exchanges, served, succeeded};

const HOUR: i64 = 3600;

/// Answers that the client must have had before the clock moves on.
const ANSWERS: u64 = 3;

/// Between two of its requests: each of them is computed, and idle time is not.
const PAUSE: Duration = Duration::from_millis(200);

/// A Pod's keys are served over jumps of an hour in both directions, whoever asks whenever: with the
/// token of before, with one that is younger than the clock says, and of an agent that has just
/// taken over. Nothing is exchanged for it.
pub(crate) fn jumps(daemon: Daemon<'_>) -> anyhow::Result<()> {
    let node = daemon.node();
    let _keeper = Keeper::contained(daemon, "clock")?;
    let [flag, socket] = Keeper::CONTAINED;
    let start = || daemon.agent(&[flag, socket, "--instance", "clock"]);
    let agent = start()?;
    let pod = node.pod("clock", "clock-0")?;
    pod.put_token(&lasting(node, &pod))?;
    succeeded(&pod.enroll("30s")?)?;
    let keys = served(&pod)?;
    let renewed = lasting(node, &pod);
    let starting = node.pod("clock", "clock-1")?;
    wait::until("the keeper has the keys", PATIENCE, || {
        agent.count("caios_agent_kept_identities") >= 1
    })?;

    let client = Client::of(&pod, &keys);
    let agent = thread::scope(|scope| {
        let asking = scope.spawn(|| client.ask());
        let _end = client.ended.clone().drop_guard();
        for hours in [1, -1, -1, 1] {
            jump(hours)?;
            client.goes_on()?;
        }
        jump(-1)?;
        client.goes_on()?;
        // The API server's clock is right: its tokens are of the future here.
        pod.put_token(&renewed)?;
        succeeded(&starting.enroll("30s")?)?;
        client.goes_on()?;
        client.between_requests(move || agent.crash())?;
        let agent = start()?;
        client.goes_on()?;
        ensure!(served(&starting)? == keys, "the other Pod has other keys");
        jump(1)?;
        client.goes_on()?;
        client.between_requests(move || agent.crash())?;
        let agent = start()?;
        client.goes_on()?;
        client.ended.cancel();
        asking
            .join()
            .map_err(|_panic| anyhow::anyhow!("the client panicked"))??;
        anyhow::Ok(agent)
    })?;
    let exchanges = exchanges(node, &pod);
    ensure!(exchanges == 1, "{exchanges} exchanges");
    ensure!(
        agent.count("caios_agent_panics_total") == 0,
        "the agent panicked"
    );
    Ok(())
}

/// Sets the clock forth, or back.
fn jump(hours: i64) -> anyhow::Result<()> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let then = now + TimeSpec::seconds(hours * HOUR);
    Ok(clock_settime(ClockId::CLOCK_REALTIME, then)?)
}

/// A token with the injector's default lifetime. One that ends within the jump would have ended for
/// the kubelet too.
fn lasting(node: &Node, pod: &Pod) -> String {
    let mut token = node.token(pod);
    token.expires_in = 24 * HOUR;
    node.mint(&token)
}

/// What an SDK reads.
#[derive(Deserialize)]
struct Keys {
    #[serde(rename = "Expiration")]
    expiration: Timestamp,
}

/// Asks again and again.
struct Client<'a> {
    pod: &'a Pod,
    keys: &'a str,
    /// Held while it waits for an answer; fair to whoever else wants it.
    asking: Mutex<()>,
    answers: AtomicU64,
    ended: CancellationToken,
}

impl<'a> Client<'a> {
    fn of(pod: &'a Pod, keys: &'a str) -> Self {
        Self {
            pod,
            keys,
            asking: Mutex::new(()),
            answers: AtomicU64::new(0),
            ended: CancellationToken::new(),
        }
    }

    /// Asks until it is told to end or something is wrong.
    fn ask(&self) -> anyhow::Result<()> {
        while !self.ended.is_cancelled() {
            let answered = self.answers.load(Ordering::Relaxed);
            let asked = self.between_requests(|| self.once());
            if asked.is_err() {
                self.ended.cancel();
            }
            asked.with_context(|| format!("after {answered} answers"))?;
            self.answers.store(answered + 1, Ordering::Relaxed);
            let ended = self.ended.clone();
            self.pod.namespace().run(async move {
                let _ = timeout(PAUSE, ended.cancelled()).await;
            });
        }
        Ok(())
    }

    fn once(&self) -> anyhow::Result<()> {
        let now = served(self.pod)?;
        ensure!(now == self.keys, "other keys");
        let Keys { expiration } = serde_json::from_str(&now)?;
        let clock = clock_gettime(ClockId::CLOCK_REALTIME)?.tv_sec();
        // The SDKs ask for other keys when less than 15 minutes are left.
        ensure!(
            expiration.as_second() - clock > HOUR / 4,
            "they expire at {expiration}, and the clock says {clock}"
        );
        Ok(())
    }

    /// Does something while it waits for no answer: a process that is killed takes with it what it
    /// is answering just then.
    fn between_requests<T>(&self, what: impl FnOnce() -> T) -> T {
        let _none = self.asking.blocking_lock();
        what()
    }

    /// That it is answered further on.
    fn goes_on(&self) -> anyhow::Result<()> {
        let before = self.answers.load(Ordering::Relaxed);
        wait::until("the client has its answers", PATIENCE, || {
            self.ended.is_cancelled() || self.answers.load(Ordering::Relaxed) >= before + ANSWERS
        })?;
        ensure!(!self.ended.is_cancelled(), "the client has given up");
        Ok(())
    }
}
