//! `make bench`: runs every case, shows the tables, and writes them beside JSON and plots.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bench::case::{
    cached, connections, enrolment, idle, instructions, latency, review, sizes, start, storm,
    webhook,
};
use bench::machine::Machine;
use bench::plan::Plan;
use bench::report::{Report, Section};
use bench::stage::Stage;
use bench::{contender, cores, hotpath};
use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: Run,
}

#[derive(Args)]
struct Run {
    /// Shows within a minute that everything works; its figures say little.
    #[arg(long)]
    quick: bool,
    /// Writes results.md, results.json and the plots there.
    #[arg(long, value_name = "DIRECTORY")]
    results: Option<PathBuf>,
    /// Fails when the instructions of a cached request are 5 % off the figure in this file.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Measures these cases alone, in the order of a full run; nothing is written.
    #[arg(
        long,
        value_name = "CASE",
        value_delimiter = ',',
        conflicts_with = "results"
    )]
    only: Vec<Case>,
}

impl Run {
    fn has(&self, case: Case) -> bool {
        self.only.is_empty() || self.only.contains(&case)
    }

    /// What repeats it.
    fn command(&self) -> String {
        let command = if self.quick {
            "make bench-quick"
        } else {
            "make bench"
        };
        let cases = self.only.iter().filter_map(Case::to_possible_value);
        let cases: Vec<_> = cases.map(|case| case.get_name().to_owned()).collect();
        if cases.is_empty() {
            return command.to_owned();
        }
        let quick = if self.quick { " --quick" } else { "" };
        format!("bench/bench.sh{quick} --only {}", cases.join(","))
    }

    /// Whether a case is wanted that needs agents and Pods.
    fn has_stage(&self) -> bool {
        let alone = [Case::Instructions, Case::Review, Case::Webhook, Case::Sizes];
        self.only.is_empty() || self.only.iter().any(|case| !alone.contains(case))
    }
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Case {
    Instructions,
    Review,
    Webhook,
    Idle,
    Cached,
    Latency,
    Connections,
    Storm,
    Start,
    Sizes,
}

/// What the bench starts of itself.
#[derive(Subcommand)]
enum Part {
    /// Serves as a contender, on descriptors that are open already.
    #[command(hide = true)]
    Serve {
        contender: String,
        listeners: String,
    },
    /// Runs the hot path alone.
    #[command(hide = true)]
    Hotpath {
        word: String,
        count: usize,
        world: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    match command.part {
        None => run(&command.run),
        Some(Part::Serve {
            contender,
            listeners,
        }) => contender::serve(&contender, &listeners),
        Some(Part::Hotpath { word, count, world }) => hotpath::run(&word, count, &world),
    }
}

fn run(run: &Run) -> anyhow::Result<()> {
    if cfg!(debug_assertions) && !run.quick {
        bail!("the figures of a debug build mean nothing; run `make bench`");
    }
    let plan = if run.quick { Plan::QUICK } else { Plan::FULL };
    // Every Pod of the harness has a runtime in this process.
    shared::process::raise_descriptor_limit().context("failed to raise the descriptor limit")?;
    let machine = Machine::here();
    cores::ask_from_here()?;
    let mut sections = Vec::new();
    let mut shown = |section: Section| {
        println!("measured: {}", section.title);
        sections.push(section);
    };
    if run.has(Case::Instructions) || run.against.is_some() {
        let counted = instructions::count()?;
        if let Some(committed) = &run.against {
            counted.compare(committed)?;
        }
        shown(counted.section());
    }
    if run.has(Case::Review) {
        shown(review::measure(&plan)?);
    }
    // It needs a control plane, which takes minutes to build where it is missing.
    if !run.quick && run.has(Case::Webhook) {
        shown(webhook::measure(&plan)?);
    }
    let plots = if run.has_stage() {
        staged(run, &plan, &mut shown)?
    } else {
        Plots::default()
    };
    if run.has(Case::Sizes) {
        shown(sizes::measure()?);
    }
    let report = Report {
        machine,
        command: run.command(),
        plan,
        sections,
    };
    println!("\n{}", report.text());
    if let Some(directory) = &run.results {
        write(directory, &report, &plots)?;
    }
    Ok(())
}

/// What is shown as a plot.
#[derive(Default)]
struct Plots {
    latencies: Vec<svg::Line>,
    courses: Vec<svg::Line>,
}

/// The cases for which agents and Pods are on a stage.
fn staged(run: &Run, plan: &Plan, shown: &mut dyn FnMut(Section)) -> anyhow::Result<Plots> {
    let mut plots = Plots::default();
    let mut stage = Stage::empty()?;
    if run.has(Case::Idle) {
        shown(idle::empty(&stage)?);
    }
    stage.fill(plan)?;
    // Whatever else is measured, the Pods must be enrolled.
    shown(enrolment::measure(&stage, plan)?);
    if run.has(Case::Idle) {
        shown(idle::full(&stage, plan)?);
    }
    stage.add_contenders()?;
    if run.has(Case::Cached) {
        shown(cached::measure(&stage, plan)?);
    }
    if run.has(Case::Latency) {
        let (section, latencies) = latency::measure(&stage, plan)?;
        shown(section);
        plots.latencies = latencies;
    }
    if run.has(Case::Connections) {
        shown(connections::measure(&stage, plan)?);
    }
    if run.has(Case::Storm) {
        let (section, courses) = storm::measure(&stage, plan)?;
        shown(section);
        plots.courses = courses;
    }
    if run.has(Case::Start) {
        shown(start::measure(&mut stage, plan)?);
    }
    Ok(plots)
}

fn write(directory: &Path, report: &Report, plots: &Plots) -> anyhow::Result<()> {
    fs::create_dir_all(directory)?;
    let put = |name: &str, text: String| {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    };
    put("results.md", report.text())?;
    put("results.json", serde_json::to_string_pretty(report)? + "\n")?;
    let [_, rate] = report.plan.rates;
    let title = format!(
        "Latency by share of requests at {rate} requests/s: 1 is 90 %, 2 is 99 %, 3 is 99.9 %"
    );
    put(
        "latency.svg",
        svg::svg(&title, ("nines", "µs"), &plots.latencies),
    )?;
    let title = "Processes that have their key after all have started at once";
    put(
        "storm.svg",
        svg::svg(title, ("seconds", "processes"), &plots.courses),
    )
}
