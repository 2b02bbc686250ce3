//! What agent and keeper take while nothing is asked.

use std::sync::mpsc;
use std::time::Duration;

use crate::plan::Plan;
use crate::process::{self, Memory};
use crate::report::{Figure, Goal, Section};
use crate::stage::Stage;

const MEGABYTE: f64 = 1e6;

/// The memory of a node without Pods.
///
/// # Errors
/// When agent or keeper has ended.
pub fn empty(stage: &Stage) -> anyhow::Result<Section> {
    let memory = agent(stage)?;
    Ok(Section {
        title: "Memory of a node without Pods".to_owned(),
        figures: vec![
            resident("agent", memory).goal(Goal::AtMost(10.0)),
            anonymous("agent", memory),
            resident("keeper", process::memory(stage.keeper())?),
        ],
    })
}

/// Memory and processor time of a node full of Pods that ask nothing.
///
/// # Errors
/// When agent or keeper has ended.
pub fn full(stage: &Stage, plan: &Plan) -> anyhow::Result<Section> {
    let process = stage.agent()?.id();
    let before = process::cpu_time(process)?;
    wait(plan.rest);
    let spent = process::cpu_time(process)?.saturating_sub(before);
    let memory = agent(stage)?;
    let percent = spent.as_secs_f64() / plan.rest.as_secs_f64() * 100.0;
    Ok(Section {
        title: format!(
            "A node with {} enrolled Pods of {} identities that ask nothing",
            plan.pods, plan.identities
        ),
        figures: vec![
            resident("agent", memory).goal(Goal::AtMost(12.0)),
            anonymous("agent", memory),
            resident("keeper", process::memory(stage.keeper())?).goal(Goal::AtMost(2.0)),
            Figure::new("processor time of the agent", "% of a core", vec![percent])
                .goal(Goal::AtMost(0.1)),
        ],
    })
}

/// The agent's memory now.
///
/// # Errors
/// When it has ended.
pub(super) fn agent(stage: &Stage) -> anyhow::Result<Memory> {
    process::memory(stage.agent()?.id())
}

fn resident(who: &str, memory: Memory) -> Figure {
    megabytes(format!("{who}, resident"), memory.resident)
}

fn anonymous(who: &str, memory: Memory) -> Figure {
    let name = format!("{who}, without the pages of its program (anonymous)");
    megabytes(name, memory.anonymous)
}

/// A figure of so many bytes.
pub(super) fn megabytes(name: impl Into<String>, bytes: f64) -> Figure {
    Figure::new(name, "MB", vec![bytes / MEGABYTE])
}

/// Lets time pass. Time itself is what is measured here.
pub(super) fn wait(time: Duration) {
    let (_sender, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}
