//! Cached answers: how many a second one core gives, of one listener.

use crate::contender::Contender;
use crate::load::{Load, Outcome};
use crate::plan::Plan;
use crate::report::{Figure, Goal, Section};
use crate::stage::Stage;

/// A way to ask for as much as possible.
struct Way {
    name: &'static str,
    connections: usize,
    run: fn(&Load<'_>, &Plan) -> anyhow::Result<Outcome>,
    /// What the agent should reach of a bare server's rate.
    goal: Option<f64>,
}

const WAYS: [Way; 3] = [
    Way {
        name: "one connection kept alive",
        connections: 1,
        run: |load, plan| load.closed(plan.turn),
        goal: None,
    },
    Way {
        name: "50 connections kept alive",
        connections: 50,
        run: |load, plan| load.closed(plan.turn),
        goal: Some(0.85),
    },
    Way {
        name: "a new connection for each request",
        connections: 0,
        run: |load, plan| load.anew(plan.turn),
        goal: Some(0.85),
    },
];

/// Measures it.
///
/// # Errors
/// When a request fails.
pub fn measure(stage: &Stage, plan: &Plan) -> anyhow::Result<Section> {
    let mut figures = Vec::new();
    for way in &WAYS {
        let mut rates = [const { Vec::new() }; Contender::ALL.len()];
        for _ in 0..plan.rounds {
            for (contender, rates) in Contender::ALL.into_iter().zip(&mut rates) {
                let run = |load: Load<'_>| (way.run)(&load, plan);
                rates.push(stage.load(contender, 1, way.connections, run)?.rate);
            }
        }
        let [ours, bare, _] = &rates;
        let ratio = ours.iter().zip(bare).map(|(ours, bare)| ours / bare);
        let mut ratio = Figure::new(
            format!("{}: agent ÷ bare hyper", way.name),
            "×",
            ratio.collect(),
        );
        if let Some(goal) = way.goal {
            ratio = ratio.goal(Goal::AtLeast(goal));
        }
        figures.push(ratio);
        for (contender, rates) in Contender::ALL.into_iter().zip(rates) {
            let name = format!("{}: {}", way.name, contender.name());
            figures.push(Figure::new(name, "requests/s", rates));
        }
    }
    Ok(Section {
        title: "Cached answers of one listener, as many as one core gives".to_owned(),
        figures,
    })
}
