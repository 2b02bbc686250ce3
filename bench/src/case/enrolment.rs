//! Enrolment of Pod after Pod, and the first request of each.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::agent::Agent;
use tests::binaries;
use tests::pod::Pod;
use tokio::time::Instant;

use crate::plan::Plan;
use crate::report::{Figure, Goal, Section};
use crate::stage::Stage;

/// What the agent measures of an enrolment.
const DURATION: &str = "caios_agent_enrollment_duration_seconds";
const HITS: &str = "caios_agent_requests_total{outcome=\"hit\"}";

/// Enrols all Pods of the stage: those whose identity is new, then the others.
///
/// # Errors
/// When an enrolment or a first request fails.
pub fn measure(stage: &Stage, plan: &Plan) -> anyhow::Result<Section> {
    let agent = stage.agent()?;
    let (first, further) = stage.pods().split_at(plan.identities);
    let new = enroll(agent, first)?;
    let known = enroll(agent, further)?;
    let hits = agent.metric(HITS).unwrap_or_default();
    for pod in stage.pods() {
        let status = pod.credentials()?.status;
        ensure!(status == 200, "{} got {status}", pod.identity.name);
    }
    let hits = agent.metric(HITS)? - hits;
    let pods = f64::from(u32::try_from(stage.pods().len())?);
    let title = format!(
        "Enrolment of {} Pods one after the other, {} with an identity that is new",
        stage.pods().len(),
        first.len()
    );
    let of = |name: &str, value| Figure::new(name, "ms", vec![value]);
    let figures = vec![
        of(
            "`caios-enroll`, start to exit, identity known: p50",
            known.p50,
        ),
        of(
            "`caios-enroll`, start to exit, identity known: p99",
            known.p99,
        )
        .goal(Goal::AtMost(10.0)),
        of(
            "`caios-enroll`, start to exit, with an exchange: p50",
            new.p50,
        ),
        of(
            "`caios-enroll`, start to exit, with an exchange: p99",
            new.p99,
        ),
        of("the agent's part, identity known: mean", known.mean),
        Figure::new(
            "the agent's part, identity known: share within 1 ms",
            "",
            vec![known.within_1_ms],
        )
        .goal(Goal::AtLeast(0.5)),
        Figure::new(
            "the agent's part, identity known: share within 5 ms",
            "",
            vec![known.within_5_ms],
        )
        .goal(Goal::AtLeast(0.99)),
        Figure::new(
            "share of first requests answered from memory",
            "",
            vec![hits / pods],
        )
        .goal(Goal::AtLeast(1.0)),
    ];
    Ok(Section { title, figures })
}

/// What some enrolments took, in milliseconds, and which share of them the agent had done by when.
struct Took {
    p50: f64,
    p99: f64,
    mean: f64,
    within_1_ms: f64,
    within_5_ms: f64,
}

/// What the agent has measured up to now: how many, seconds, within 1 ms, within 5 ms.
fn measured(agent: &Agent) -> anyhow::Result<[f64; 4]> {
    let within = |bound| agent.metric(&format!("{DURATION}_bucket{{le=\"{bound}\"}}"));
    Ok([
        agent.metric(&format!("{DURATION}_count"))?,
        agent.metric(&format!("{DURATION}_sum"))?,
        within("0.001")?,
        within("0.005")?,
    ])
}

/// Enrols one Pod after the other with the shipped `caios-enroll`.
fn enroll(agent: &Agent, pods: &[Pod]) -> anyhow::Result<Took> {
    let program = binaries::enroll();
    let before = measured(agent)?;
    let mut took = Vec::with_capacity(pods.len());
    for pod in pods {
        let mut command = pod.enroll_command(&program, "30s");
        let (output, elapsed) = pod.namespace().call(move || {
            let started = Instant::now();
            let output = command.output();
            (output, started.elapsed())
        });
        let output = output.context("failed to start caios-enroll")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "caios-enroll failed: {said}");
        took.push(elapsed);
    }
    took.sort_unstable();
    let after = measured(agent)?;
    let mut since = [0.0; 4];
    for ((since, after), before) in since.iter_mut().zip(after).zip(before) {
        *since = after - before;
    }
    let [count, sum, within_1_ms, within_5_ms] = since;
    Ok(Took {
        p50: milliseconds(&took, 50),
        p99: milliseconds(&took, 99),
        mean: sum / count * 1e3,
        within_1_ms: within_1_ms / count,
        within_5_ms: within_5_ms / count,
    })
}

/// What `percent` of the sorted samples do not exceed.
fn milliseconds(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    let sample = sorted.get(rank).copied().unwrap_or_default();
    sample.as_secs_f64() * 1e3
}
