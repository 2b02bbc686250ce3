//! Events of all rows at random.

#![expect(clippy::print_stdout, reason = "the number repeats the run")]

use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;
use tokio::time::Instant;

use super::rows::ROWS;
use super::table::{Table, print_errors};
use super::{full, is_chosen};

const NAME: &str = "all of these at random";
/// Runs of a full table, and how long each lasts, in this table and in the short one. A run whose last
/// event is an outage of minutes takes those from the next.
const RUNS: u32 = 3;
const LONG: Duration = Duration::from_mins(10);
const SHORT: Duration = Duration::from_secs(20);

/// How long random events are to happen and nothing else: `SOAK`, such as `2h`.
pub(super) fn soak() -> anyhow::Result<Option<Duration>> {
    let Ok(text) = std::env::var("SOAK") else {
        return Ok(None);
    };
    let parsed = humantime::parse_duration(&text);
    parsed
        .map(Some)
        .with_context(|| format!("`SOAK={text}` is no duration such as `2h`"))
}

/// Lets events happen for `soak`, or as often as the table wants it.
pub(super) fn run(table: &mut Table<'_>, soak: Option<Duration>) -> anyhow::Result<()> {
    if soak.is_none() && !is_chosen(NAME) {
        return Ok(());
    }
    let (runs, lasts) = match soak {
        Some(lasts) => (1, lasts),
        None if full() => (RUNS, LONG),
        None => (1, SHORT),
    };
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().context("`SEED` is no number")?,
        Err(_) => u64::from(fastrand::u32(..)),
    };
    let started = Instant::now();
    for (run, seed) in (1..=runs).zip(seed..) {
        println!("    SEED={seed} repeats this:");
        table.line(NAME, |table| at_random(table, seed, started + lasts * run))?;
    }
    Ok(())
}

/// Events until `end`: how many, and how many requests they may have cut off.
fn at_random(table: &mut Table<'_>, seed: u64, end: Instant) -> anyhow::Result<(u32, u64)> {
    let mut random = Rng::with_seed(seed);
    let started = Instant::now();
    let (mut times, mut may_cut) = (0, 0);
    while Instant::now() < end {
        let row = random.choice(ROWS).context("there are rows")?;
        println!(
            "      {:>5.0} s: {}",
            started.elapsed().as_secs_f64(),
            row.name
        );
        print_errors(&table.counted(row)?);
        times += 1;
        may_cut += row.may_cut;
    }
    Ok((times, may_cut))
}
