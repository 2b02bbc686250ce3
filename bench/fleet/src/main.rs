//! The real cache of thousands of agents in one process, under simulated time, before an issuer that
//! takes so many exchanges a second and no more.
//!
//! `cargo run --release -p fleet -- --help` says what can be changed; the defaults are a tenth of a
//! cluster of 10,000 nodes, with a tenth of its limit.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    let plan = fleet::plan::Plan::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let course = runtime.block_on(fleet::day::run(&plan))?;
    println!("{}", fleet::report::text(&plan, &course));
    if let Some(path) = &plan.plot {
        std::fs::write(path, fleet::report::plot(&plan, &course))?;
    }
    Ok(())
}
