//! The start of an agent that finds the node's Pods enrolled already.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::plan::Plan;
use crate::report::{Figure, Goal, Section};
use crate::stage::Stage;

/// Kills the agent and starts another, in each round.
///
/// # Errors
/// When it does not come back, or a Pod is not answered.
pub fn measure(stage: &mut Stage, plan: &Plan) -> anyhow::Result<Section> {
    let (mut answered, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        stage.take_agent()?.crash()?;
        let (agent, first, whole) = std::thread::scope(|scope| -> anyhow::Result<_> {
            let pod = stage.pods().first();
            let started = Instant::now();
            let asking = scope.spawn(move || {
                let answer = pod.map(tests::pod::Pod::credentials).transpose();
                (answer, started.elapsed())
            });
            let agent = stage.spawn_agent()?.ready()?;
            let whole = started.elapsed();
            let (answer, first) = asking
                .join()
                .map_err(|_| anyhow::anyhow!("the thread that asked has panicked"))?;
            let status = answer?.map(|answer| answer.status);
            ensure!(status == Some(200), "the first answer was {status:?}");
            Ok((agent, first, whole))
        })?;
        stage.put_agent(agent)?;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        answered.push(milliseconds(first));
        ready.push(milliseconds(whole));
    }
    Ok(Section {
        title: format!(
            "An agent killed and started anew, with {} listeners to take back",
            stage.pods().len()
        ),
        figures: vec![
            Figure::new("from its start to the first answer", "ms", answered)
                .goal(Goal::AtMost(100.0)),
            Figure::new(
                "from its start until it is ready, seen every 10 ms",
                "ms",
                ready,
            )
            .goal(Goal::AtMost(300.0)),
        ],
    })
}
