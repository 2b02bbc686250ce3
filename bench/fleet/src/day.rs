//! The course of a plan.

use std::time::Duration;

use agent::metrics::Metrics;
use fastrand::Rng;
use jiff::Timestamp;
use shared::clock::Clock;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::issuer::{Issuer, Second};
use crate::node::{Answer, Asked, Node, Parts};
use crate::plan::Plan;

/// From one look at the fleet to the next.
const STEP: Duration = Duration::from_secs(10);
/// From one look at every key to the next: it takes hours until all are fresh again.
const LOOK: Duration = Duration::from_mins(5);
/// From one request of every Pod to the next.
const ROUND: Duration = Duration::from_mins(30);

/// What came of a plan.
#[derive(Clone, Debug)]
pub struct Course {
    /// What the issuer saw, second by second.
    pub seconds: Vec<Second>,
    /// Keys that were minted.
    pub minted: u64,
    /// Requests while nodes started: there was no memory to answer from.
    pub starting: Asked,
    /// Requests of nodes that had had their keys.
    pub running: Asked,
    /// From the end of the outage until every key was fresh; [`None`] if that did not come.
    pub fresh_after: Option<Duration>,
    /// From the restart of all nodes until every identity had a key; [`None`] if that did not come.
    pub back_after: Option<Duration>,
    /// Exchanges in the minute after all agents were replaced, and in the minute before.
    pub around_upgrade: (u32, u32),
}

struct Fleet {
    nodes: Vec<Node>,
    plan: Plan,
    parts: Parts,
    begun: Instant,
    rng: Rng,
    course: Course,
    /// Requests that wait. The day does not wait for them.
    asking: JoinSet<Answer>,
}

/// Runs a plan to its end. Tokio's time must be paused.
///
/// # Errors
/// When metrics cannot be made, or an agent's memory cannot be handed over.
pub async fn run(plan: &Plan) -> anyhow::Result<Course> {
    let clock = Clock::anchored(Timestamp::from_second(1_800_000_000)?);
    let issuer = Issuer::new(plan.limit, plan.burst, clock.clone());
    let metrics = Metrics::new(&prometheus::Registry::new())?;
    let parts = Parts {
        issuer,
        clock,
        metrics,
    };
    let mut fleet = Fleet {
        nodes: Vec::new(),
        plan: plan.clone(),
        parts,
        begun: Instant::now(),
        rng: Rng::with_seed(plan.seed),
        asking: JoinSet::new(),
        course: Course {
            seconds: Vec::new(),
            minted: 0,
            starting: Asked::default(),
            running: Asked::default(),
            fresh_after: None,
            back_after: None,
            around_upgrade: (0, 0),
        },
    };
    fleet.run().await?;
    Ok(fleet.course)
}

impl Fleet {
    async fn run(&mut self) -> anyhow::Result<()> {
        let plan = self.plan.clone();
        let (outage_ends, mut was_away) = (plan.outage_at + plan.outage, false);
        let (mut upgraded, mut restarted) = (false, false);
        let mut at = Duration::ZERO;
        while at < plan.time {
            self.start(at);
            let is_away = (plan.outage_at..outage_ends).contains(&at);
            if is_away != was_away {
                self.parts.issuer.away(is_away);
                was_away = is_away;
            }
            if !upgraded && !plan.upgrade_at.is_zero() && at >= plan.upgrade_at {
                upgraded = true;
                for node in &mut self.nodes {
                    node.upgrade()?;
                }
            }
            if !restarted && !plan.restart_at.is_zero() && at >= plan.restart_at {
                restarted = true;
                for node in &mut self.nodes {
                    node.lose();
                }
                self.ask_all(0..self.nodes.len());
            }
            self.roll();
            if at.as_secs().is_multiple_of(LOOK.as_secs()) {
                self.look(at, outage_ends);
            }
            if at.as_secs().is_multiple_of(ROUND.as_secs()) {
                self.ask_all(0..self.nodes.len());
            }
            while let Some(ended) = self.asking.try_join_next() {
                self.count(ended?);
            }
            at += STEP;
            sleep_until(self.begun + at).await;
        }
        while let Some(ended) = self.asking.join_next().await {
            self.count(ended?);
        }
        self.course.seconds = self.parts.issuer.seconds();
        self.course.minted = self.parts.issuer.minted();
        let around = |from: Duration| {
            let from = usize::try_from(from.as_secs()).unwrap_or(usize::MAX);
            let minute = self.course.seconds.iter().skip(from).take(60);
            minute.map(|second| second.answered()).sum()
        };
        if !plan.upgrade_at.is_zero() {
            let before = plan.upgrade_at.saturating_sub(Duration::from_mins(1));
            self.course.around_upgrade = (around(plan.upgrade_at), around(before));
        }
        Ok(())
    }

    /// Starts the nodes whose time has come.
    fn start(&mut self, at: Duration) {
        let share = at.as_secs_f64() / self.plan.start_within.as_secs_f64().max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "some thousands of nodes"
        )]
        let due = ((share * self.plan.nodes as f64) as usize + 1).min(self.plan.nodes);
        let first = self.nodes.len();
        for number in first..due {
            let (identities, parts) = (self.plan.identities, self.parts.clone());
            let node = Node::new(number, identities, parts, self.plan.seed);
            self.nodes.push(node);
        }
        self.ask_all(first..due);
    }

    fn ask_all(&mut self, nodes: std::ops::Range<usize>) {
        for node in self.nodes.get_mut(nodes).unwrap_or_default() {
            for asking in node.ask_all() {
                self.asking.spawn(asking);
            }
        }
    }

    const fn count(&mut self, answer: Answer) {
        let asked = if answer.is_of_start {
            &mut self.course.starting
        } else {
            &mut self.course.running
        };
        asked.count(answer.is_there);
    }

    /// As many Pods as end in one step make way to new ones.
    fn roll(&mut self) {
        let pods = self.nodes.len() * self.plan.identities;
        #[expect(clippy::cast_precision_loss, reason = "some thousands of Pods")]
        let mean = pods as f64 * STEP.as_secs_f64() / self.plan.pod_life.as_secs_f64().max(1.0);
        let mut left = mean + self.rng.f64();
        while left >= 1.0 {
            left -= 1.0;
            let number = self.rng.usize(..self.nodes.len().max(1));
            if let Some(node) = self.nodes.get_mut(number) {
                self.asking.spawn(node.roll());
            }
        }
    }

    fn parts_are_lost(&self) -> bool {
        !self.plan.restart_at.is_zero() && self.begun.elapsed() >= self.plan.restart_at
    }

    fn look(&mut self, at: Duration, outage_ends: Duration) {
        let all = self.nodes.len() * self.plan.identities;
        if !self.plan.outage.is_zero() && at >= outage_ends && self.course.fresh_after.is_none() {
            let fresh: usize = self.nodes.iter().map(Node::fresh).sum();
            // Some keys are always on their way.
            if fresh * 1000 >= all * 999 {
                self.course.fresh_after = Some(at.saturating_sub(outage_ends));
            }
        }
        if self.parts_are_lost() && self.course.back_after.is_none() {
            let keys: usize = self.nodes.iter().map(Node::with_key).sum();
            if keys == all {
                self.course.back_after = Some(at.saturating_sub(self.plan.restart_at));
            }
        }
    }
}
