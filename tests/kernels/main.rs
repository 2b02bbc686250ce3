//! The kernels that nodes run: the real binaries, in a virtual machine for each. Needs what
//! `tests/tools/fetch.sh qemu kernels` installs.

mod archive;
mod image;
mod machine;
mod programs;

use std::path::Path;

use anyhow::{Context as _, ensure};
use tests::guest::Report;

use crate::image::Kernel;
use crate::machine::Machine;

#[test]
fn every_scenario_passes_on_linux_5_10() -> anyhow::Result<()> {
    passes_on("5.10")
}

#[test]
fn every_scenario_passes_on_linux_6_1() -> anyhow::Result<()> {
    passes_on("6.1")
}

#[test]
fn every_scenario_passes_on_linux_6_12() -> anyhow::Result<()> {
    passes_on("6.12")
}

#[expect(
    clippy::print_stdout,
    reason = "which kernel it was, and what took how long"
)]
fn passes_on(series: &str) -> anyhow::Result<()> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("kernels")
        .join(series);
    let machine = Machine::run(&Kernel::of(series)?, &place)?;
    let reports = machine.reports().with_context(|| machine.console())?;
    let mut failed = Vec::new();
    for report in &reports {
        match report {
            Report::Booted(kernel) => println!("{kernel}"),
            Report::Ended {
                scenario,
                seconds,
                problem: None,
            } => println!("{seconds:6.1} s {scenario}"),
            Report::Ended {
                scenario,
                problem: Some(problem),
                ..
            } => failed.push(format!("{scenario}: {problem}")),
            Report::Finished => {}
        }
    }
    if !matches!(reports.last(), Some(Report::Finished)) {
        failed.push("the machine ended too early".to_owned());
    }
    ensure!(
        failed.is_empty(),
        "on Linux {series}:\n{}\n{}",
        failed.join("\n"),
        machine.console()
    );
    Ok(())
}
