//! The kernels that nodes run: the real binaries, in a virtual machine for each. Needs what
//! `tests/tools/fetch.sh qemu kernels` installs.

mod archive;
mod image;
mod machine;
mod programs;

use std::path::Path;

use tests::guest::Report;

use crate::image::Kernel;
use crate::machine::Machine;

#[test]
fn every_scenario_passes_on_linux_5_10() {
    passes_on("5.10");
}

#[test]
fn every_scenario_passes_on_linux_6_1() {
    passes_on("6.1");
}

#[test]
fn every_scenario_passes_on_linux_6_12() {
    passes_on("6.12");
}

#[expect(
    clippy::print_stdout,
    reason = "which kernel it was, and what took how long"
)]
fn passes_on(series: &str) {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("kernels")
        .join(series);
    let machine = Kernel::of(series)
        .and_then(|kernel| Machine::run(&kernel, &place))
        .unwrap_or_else(|error| panic!("{error:#}"));
    let mut failed = Vec::new();
    for report in &machine.reports {
        match report {
            Report::Booted(kernel) => println!("{kernel}"),
            Report::Ended {
                scenario,
                seconds,
                problem,
            } => {
                println!(
                    "{seconds:6.1} s {scenario}: {}",
                    problem.as_deref().unwrap_or("ok")
                );
                failed.extend(problem.is_some().then_some(scenario));
            }
            Report::Finished => {}
        }
    }
    assert!(
        failed.is_empty(),
        "{failed:?} failed on Linux {series}\n{}",
        machine.console()
    );
    assert!(
        matches!(machine.reports.last(), Some(Report::Finished)),
        "the machine ended too early\n{}",
        machine.console()
    );
}
