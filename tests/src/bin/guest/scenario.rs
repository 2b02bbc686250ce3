//! What is played on every kernel.

use std::process::Command;

use anyhow::{Context as _, ensure};
use tests::guest::{AGENT_TESTS, SUITE};

use crate::clock;

/// Ends well or says why not.
type Scenario = fn() -> anyhow::Result<()>;

/// Every scenario, in order. What the suite tests already needs a line alone.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("descriptors of Pods, good and hostile", || {
        run(AGENT_TESTS, &["enrolment::"])
    }),
    ("enrolment", || run(SUITE, &["enrolment::"])),
    ("an agent without any privilege", || {
        run(SUITE, &["prepare::"])
    }),
    ("a clock that jumps by an hour", clock::jumps),
];

/// Runs those tests of a test program whose names contain one of `names`.
fn run(program: &str, names: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program)
        .args(names)
        .args(["--test-threads", "4"])
        .status()
        .with_context(|| format!("failed to start {program}"))?;
    ensure!(
        status.success(),
        "{program} ended with {status}: see the console"
    );
    Ok(())
}
