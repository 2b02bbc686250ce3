//! The table: events happen under load, and each row of them is a line.

#![expect(clippy::print_stdout, reason = "the table is what is asked for")]

use anyhow::Context as _;
use tests::cluster::{Cluster, Counts, Load};
use tokio::time::Instant;

use super::full;
use super::rows::Row;
use super::scene::Scene;

/// A table that is being filled.
pub(super) struct Table<'a> {
    cluster: &'a Cluster,
    load: &'a Load<'a>,
    namespace: &'a str,
    number: u32,
    failed: Vec<anyhow::Error>,
}

impl<'a> Table<'a> {
    /// Prints the heading. The clients of `load` are in `namespace`.
    pub(super) fn new(cluster: &'a Cluster, load: &'a Load<'a>, namespace: &'a str) -> Self {
        println!(
            "    {:<50} {:>5} {:>9} {:>7} {:>7}",
            "event", "times", "requests", "failed", "seconds"
        );
        Self {
            cluster,
            load,
            namespace,
            number: 0,
            failed: Vec::new(),
        }
    }

    /// Lets a row happen as often as this run wants it.
    pub(super) fn run(&mut self, row: &Row) -> anyhow::Result<()> {
        let times = if full() {
            row.times
        } else {
            row.times.div_ceil(10)
        };
        self.line(row.name, |table| {
            (0..times).try_for_each(|_| table.happens(row))?;
            Ok((times, u64::from(times) * row.may_cut))
        })
    }

    /// One event of several, with what the clients have seen of it alone.
    pub(super) fn counted(&mut self, row: &Row) -> anyhow::Result<Counts> {
        let load = self.load;
        load.during(|| self.happens(row))
    }

    /// One event.
    fn happens(&mut self, row: &Row) -> anyhow::Result<()> {
        self.number += 1;
        self.cluster.keep_logs();
        let scene = Scene {
            cluster: self.cluster,
            namespace: self.namespace,
            number: self.number,
        };
        (row.happens)(&scene).context(row.name)
    }

    /// Lets events happen and prints what the clients have seen of them. The events say how many
    /// they were, and how many requests may have failed.
    pub(super) fn line(
        &mut self,
        name: &'static str,
        happen: impl FnOnce(&mut Self) -> anyhow::Result<(u32, u64)>,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let load = self.load;
        let (mut times, mut may_fail) = (0, 0);
        let counts = load.during(|| {
            (times, may_fail) = happen(self)?;
            Ok(())
        })?;
        print(name, times, &counts, started);
        print_errors(&counts);
        if let Err(error) = counts.ensure_failed_at_most(may_fail) {
            self.failed.push(error.context(name));
        }
        Ok(())
    }

    /// The rows in which more requests failed than may.
    pub(super) fn end(self) -> Vec<anyhow::Error> {
        self.failed
    }
}

/// Prints a line of the table.
pub(super) fn print(name: &str, times: u32, counts: &Counts, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "    {name:<50} {times:>5} {:>9} {:>7} {seconds:>7.1}",
        counts.asked, counts.failed
    );
}

/// Prints a line for each error that clients have met.
pub(super) fn print_errors(counts: &Counts) {
    for (error, times) in &counts.errors {
        println!("      {times} x {error}");
    }
}
