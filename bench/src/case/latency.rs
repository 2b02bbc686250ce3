//! Latency at a rate that is far from the limit, over the listeners of all Pods.

use crate::contender::Contender;
use crate::load::Outcome;
use crate::plan::Plan;
use crate::report::{Figure, Goal, Section};
use crate::stage::Stage;

/// Connections to each listener.
const CONNECTIONS: usize = 2;
/// Shares of the requests, with what the agent's may be of a bare server's.
const SHARES: [(&str, f64, Option<f64>); 3] = [
    ("p50", 0.5, None),
    ("p99", 0.99, Some(1.5)),
    ("p99.9", 0.999, None),
];
/// Where the lines of the plot have their points: so many of a thousand requests.
const PLOTTED: [u32; 14] = [
    100, 250, 400, 500, 600, 700, 800, 900, 950, 975, 990, 995, 998, 999,
];

/// Measures it; the lines of the second result plot the higher rate.
///
/// # Errors
/// When a request fails.
pub fn measure(stage: &Stage, plan: &Plan) -> anyhow::Result<(Section, Vec<svg::Line>)> {
    let (mut figures, mut lines) = (Vec::new(), Vec::new());
    for rate in plan.rates {
        let mut turns = [const { Vec::new() }; Contender::ALL.len()];
        for _ in 0..plan.rounds {
            for (contender, turns) in Contender::ALL.into_iter().zip(&mut turns) {
                let pods = stage.pods().len();
                turns.push(stage.load(contender, pods, CONNECTIONS, |load| {
                    load.open(rate, plan.turn)
                })?);
            }
        }
        for (name, share, goal) in SHARES {
            let of = |turns: &[Outcome]| -> Vec<f64> {
                turns.iter().map(|turn| turn.microseconds(share)).collect()
            };
            let [ours, bare, _] = &turns;
            let ratio = of(ours).into_iter().zip(of(bare));
            let ratio = ratio.map(|(ours, bare)| ours / bare).collect();
            let name = format!("{name} at {rate} requests/s");
            let mut ratio = Figure::new(format!("{name}: agent ÷ bare hyper"), "×", ratio);
            if let Some(goal) = goal {
                ratio = ratio.goal(Goal::AtMost(goal));
            }
            figures.push(ratio);
            for (contender, turns) in Contender::ALL.into_iter().zip(&turns) {
                let name = format!("{name}: {}", contender.name());
                figures.push(Figure::new(name, "µs", of(turns)));
            }
        }
        lines = Contender::ALL
            .into_iter()
            .zip(&turns)
            .map(|(contender, turns)| line(contender.name(), turns))
            .collect();
    }
    let title = format!(
        "Latency from when a request was due, {} listeners with {CONNECTIONS} connections each",
        stage.pods().len()
    );
    Ok((Section { title, figures }, lines))
}

/// The latency by the number of nines: 90 % is 1, 99 % is 2.
fn line(name: &str, turns: &[Outcome]) -> svg::Line {
    let mut all = turns.iter().map(|turn| turn.latency.clone());
    let first = all.next();
    let merged = first.map(|mut first| {
        all.for_each(|next| first += next);
        first
    });
    let points = merged.into_iter().flat_map(|latency| {
        PLOTTED.map(|thousandths| {
            let share = f64::from(thousandths) / 1000.0;
            let value = latency.value_at_quantile(share);
            let value = std::time::Duration::from_nanos(value).as_secs_f64() * 1e6;
            (-(1.0 - share).log10(), value)
        })
    });
    svg::Line {
        name: name.to_owned(),
        points: points.collect(),
    }
}
