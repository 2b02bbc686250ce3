//! What agent and keeper take while nothing is asked.

use std::sync::mpsc;
use std::time::Duration;

use crate::plan::Plan;
use crate::process;
use crate::report::{Figure, Goal, Section};
use crate::stage::Stage;

const MEGABYTE: f64 = 1e6;

/// The memory of a node without Pods.
///
/// # Errors
/// When agent or keeper has ended.
pub fn empty(stage: &Stage) -> anyhow::Result<Section> {
    Ok(Section {
        title: "Memory of a node without Pods".to_owned(),
        figures: vec![agent(stage)?.goal(Goal::AtMost(10.0)), keeper(stage)?],
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
    let percent = spent.as_secs_f64() / plan.rest.as_secs_f64() * 100.0;
    Ok(Section {
        title: format!(
            "A node with {} enrolled Pods of {} identities that ask nothing",
            plan.pods, plan.identities
        ),
        figures: vec![
            agent(stage)?.goal(Goal::AtMost(12.0)),
            keeper(stage)?.goal(Goal::AtMost(2.0)),
            Figure::new("processor time of the agent", "% of a core", vec![percent])
                .goal(Goal::AtMost(0.1)),
        ],
    })
}

/// The agent's memory now.
///
/// # Errors
/// When it has ended.
pub fn agent(stage: &Stage) -> anyhow::Result<Figure> {
    let bytes = process::resident(stage.agent()?.id())?;
    Ok(Figure::new("agent, resident", "MB", vec![bytes / MEGABYTE]))
}

fn keeper(stage: &Stage) -> anyhow::Result<Figure> {
    let bytes = process::resident(stage.keeper())?;
    Ok(Figure::new(
        "keeper, resident",
        "MB",
        vec![bytes / MEGABYTE],
    ))
}

/// Lets time pass. Time itself is what is measured here.
pub(super) fn wait(time: Duration) {
    let (_sender, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}
