//! What a plan came to, for a person.

use std::fmt::Write as _;
use std::time::Duration;

use crate::day::Course;
use crate::issuer::Second;
use crate::plan::Plan;

/// What the figures are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Exchanges that reached the issuer in one second: the most while it was there.
    pub peak: u32,
    /// The most of them after the outage.
    pub peak_after_outage: u32,
    /// The same for a whole minute, each second in the mean.
    pub peak_minute_after_outage: f64,
    /// In the mean over the whole time.
    pub mean: f64,
    /// Keys minted for each identity, node and half of a lifetime.
    pub per_half_life: f64,
    /// Calls that found nobody in the outage, each second in the mean.
    pub unreached: f64,
}

/// Half of what keys live.
const HALF_LIFE: Duration = Duration::from_hours(3);

/// Works them out.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn figures(plan: &Plan, course: &Course) -> Figures {
    // Where there is no outage, nothing is after it.
    let ended = (!plan.outage.is_zero())
        .then(|| usize::try_from((plan.outage_at + plan.outage).as_secs()).ok())
        .flatten()
        .unwrap_or(usize::MAX);
    let most = |from: usize| {
        let seconds = course.seconds.iter().skip(from);
        seconds.map(|second| second.answered()).max().unwrap_or(0)
    };
    let most_of_minute = |from: usize| {
        let after = course.seconds.get(from..).unwrap_or_default();
        let minutes = after.chunks(60).map(|minute| {
            let all = minute.iter().map(|second| second.answered());
            all.sum::<u32>()
        });
        f64::from(minutes.max().unwrap_or(0)) / 60.0
    };
    let sum = |of: fn(&Second) -> u32| {
        let seconds = course.seconds.iter();
        seconds.map(|second| u64::from(of(second))).sum::<u64>()
    };
    let (all, unreached) = (
        sum(|second| second.answered()),
        sum(|second| second.unreached),
    );
    let halves = plan.time.as_secs_f64() / HALF_LIFE.as_secs_f64();
    Figures {
        peak: most(0),
        peak_after_outage: most(ended),
        peak_minute_after_outage: most_of_minute(ended),
        mean: all as f64 / plan.time.as_secs_f64(),
        per_half_life: course.minted as f64 / (plan.nodes * plan.identities) as f64 / halves,
        unreached: unreached as f64 / plan.outage.as_secs_f64().max(1.0),
    }
}

/// A table.
pub fn text(plan: &Plan, course: &Course) -> String {
    let of = figures(plan, course);
    let mut text = String::from("| figure | |\n| --- | ---: |\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    let shown = |time: Option<Duration>| {
        time.map_or_else(
            || "not within the time".to_owned(),
            |time| humantime::format_duration(time).to_string(),
        )
    };
    row(
        "nodes × identities",
        format!("{} × {}", plan.nodes, plan.identities),
    );
    row(
        "the issuer's limit, exchanges/s; at once",
        format!("{}; {}", plan.limit, plan.burst),
    );
    row(
        "mean, exchanges/s that reached it",
        format!("{:.2}", of.mean),
    );
    row("busiest second", of.peak.to_string());
    row(
        "exchanges for each identity, node and half life",
        format!("{:.2}", of.per_half_life),
    );
    if !plan.outage.is_zero() {
        row(
            "calls/s that found nobody in the outage",
            format!("{:.2}", of.unreached),
        );
        row(
            "busiest second after the outage",
            of.peak_after_outage.to_string(),
        );
        row(
            "busiest minute after the outage, exchanges/s",
            format!("{:.2}", of.peak_minute_after_outage),
        );
        row(
            "until all keys are fresh after the outage",
            shown(course.fresh_after),
        );
    }
    if !plan.upgrade_at.is_zero() {
        let (after, before) = course.around_upgrade;
        let value = format!("{after}, {before} in the minute before");
        row(
            "exchanges in the minute after all agents were replaced",
            value,
        );
    }
    if !plan.restart_at.is_zero() {
        row(
            "until all have a key after the restart",
            shown(course.back_after),
        );
    }
    row(
        "requests of Pods that had had a key",
        course.running.answered.to_string(),
    );
    row(
        "of them without an answer",
        course.running.failed.to_string(),
    );
    row(
        "requests while nodes started",
        course.starting.answered.to_string(),
    );
    row(
        "of them without an answer",
        course.starting.failed.to_string(),
    );
    text
}

/// Exchanges per second over the time, as SVG: the mean of each minute.
pub fn plot(plan: &Plan, course: &Course) -> String {
    let minutes = |of: fn(&Second) -> u32| {
        let minutes = course.seconds.chunks(60).enumerate();
        let points = minutes.map(|(minute, seconds)| {
            let all: u32 = seconds.iter().map(of).sum();
            let hours = f64::from(u32::try_from(minute).unwrap_or_default()) / 60.0;
            (hours, f64::from(all) / 60.0)
        });
        points.collect()
    };
    let limit = f64::from(plan.limit);
    let lines = [
        ("reached the issuer", minutes(|second| second.answered())),
        ("found nobody", minutes(|second| second.unreached)),
        (
            "the issuer's limit",
            vec![(0.0, limit), (plan.time.as_secs_f64() / 3600.0, limit)],
        ),
    ];
    let lines = lines.map(|(name, points)| svg::Line {
        name: name.to_owned(),
        points,
    });
    let title = format!(
        "Exchanges of {} nodes with {} identities, mean of each minute",
        plan.nodes, plan.identities
    );
    svg::svg(&title, ("hours", "exchanges/s"), &lines)
}
