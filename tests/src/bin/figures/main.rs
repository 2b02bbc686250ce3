//! `make figures`: how fast the agent answers and what it costs, on the machine it runs on.
//!
//! Every case of load runs against the agent and against a bare hyper server that gives the same
//! answer, in turns: client and server share the cores, so the ratio says more than the numbers.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

mod bare;
mod load;

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use load::{Figures, percentile};
use shared::contract::CREDENTIALS_PATH;
use tests::agent::Agent;
use tests::keeper::Keeper;
use tests::namespace::Namespace;
use tests::node::Node;
use tests::pod::Pod;
use tests::{binaries, wait};
use tokio::time::Instant;

/// Times that every case of load runs; the median of each figure is shown.
const ROUNDS: usize = 3;
/// How long a case runs in one round, against one server.
const CASE: Duration = Duration::from_secs(5);
/// Connections at once, and whether they are kept alive.
const CASES: [(&str, usize, bool); 3] = [
    ("1 connection", 1, true),
    ("50 connections", 50, true),
    ("a new connection each", 1, false),
];
const PODS: usize = 250;
const IDENTITIES: usize = 50;
/// The agent's Pod, as its keeper knows it.
const INSTANCE: &str = "figures";

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("bare") => return bare::serve(),
        Some(other) => bail!("unknown argument `{other}`"),
    }
    if cfg!(debug_assertions) {
        bail!("the figures of a debug build mean nothing; run `make figures`");
    }
    // Every Pod of the harness has a runtime in this process.
    shared::process::raise_descriptor_limit().context("failed to raise the descriptor limit")?;
    machine()?;
    load()?;
    pods()?;
    for binary in [binaries::agent(), binaries::enroll(), binaries::keeper()] {
        let name = binary.file_name().unwrap_or_default().display();
        println!("{name}: {} bytes", fs::metadata(&binary)?.len());
    }
    Ok(())
}

fn machine() -> anyhow::Result<()> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let busy = fs::read_to_string("/proc/loadavg")?;
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]);
    let commit = git.current_dir(env!("CARGO_MANIFEST_DIR")).output()?.stdout;
    println!(
        "{} × {}, Linux {}, commit {}, load average {} before\n",
        std::thread::available_parallelism()?,
        model.unwrap_or("unknown processor"),
        kernel.trim(),
        String::from_utf8_lossy(&commit).trim(),
        busy.split(' ').next().unwrap_or("unknown")
    );
    Ok(())
}

/// Cached requests, of the agent and of the bare server.
fn load() -> anyhow::Result<()> {
    let node = Node::new()?;
    let agent = node.agent(&[])?;
    let pod = node.enrolled_pod("trainer", "train-0")?;
    let answer = pod.credentials()?;
    ensure!(answer.status == 200, "no credentials: {}", answer.head);
    let bare = bare::Server::start(&answer.body)?;
    let token = pod.token()?;
    let request = format!("GET {CREDENTIALS_PATH} HTTP/1.1\r\nAuthorization: {token}\r\n\r\n");

    let mut rounds: [[Vec<Figures>; 2]; CASES.len()] = Default::default();
    for _ in 0..ROUNDS {
        for ((_, connections, kept), [ours, bares]) in CASES.into_iter().zip(&mut rounds) {
            let run = |place: &Namespace| load::run(place, &request, connections, kept, CASE);
            ours.push(run(pod.namespace())?);
            bares.push(run(bare.namespace())?);
        }
    }
    println!("Cached answers, median of {ROUNDS} rounds of {CASE:?}:\n");
    println!("| load | server | requests/s | p50 µs | p99 µs | p99.9 µs |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for ((name, ..), [ours, bares]) in CASES.into_iter().zip(&rounds) {
        let (ours, bare) = (load::median(ours), load::median(bares));
        for (server, [rate, p50, p99, p999]) in [("agent", ours), ("bare hyper", bare)] {
            println!("| {name} | {server} | {rate:.0} | {p50:.0} | {p99:.0} | {p999:.0} |");
        }
        println!("| | agent ÷ bare | {:.2} | | | |", ours[0] / bare[0]);
    }
    println!("\nAgent after that: {}\n", memory(agent.id())?);
    Ok(())
}

/// Enrolment and memory with a node full of Pods.
fn pods() -> anyhow::Result<()> {
    let node = Node::new()?;
    let keeper = Keeper::spawn(&node, INSTANCE)?;
    let mut arguments = node.agent_arguments();
    arguments.extend(Keeper::arguments(&node, INSTANCE));
    arguments.push("--poll-interval=1s".to_owned());
    let agent = node.spawn_agent(&arguments)?.ready()?;
    let idle = (memory(agent.id())?, memory(keeper.id())?);
    let pods = (0..PODS)
        .map(|number| {
            let service_account = format!("sa-{}", number % IDENTITIES);
            node.pod(&service_account, &format!("pod-{number}"))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (first, further) = pods.split_at(IDENTITIES);
    println!("| enrolment | Pods | caios-enroll p50 ms | p99 ms | agent, mean ms |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, pods) in [("with an exchange", first), ("identity known", further)] {
        let (count, ([p50, p99], mean)) = (pods.len(), enroll(&agent, pods)?);
        println!("| {name} | {count} | {p50:.2} | {p99:.2} | {mean:.2} |");
    }
    for pod in &pods {
        let status = pod.credentials()?.status;
        ensure!(status == 200, "{} got {status}", pod.identity.name);
    }
    let full = (memory(agent.id())?, memory(keeper.id())?);
    let exchanges = node.standin().calls().exchanges();
    for pod in &pods {
        pod.remove_interface()?;
    }
    wait::until("all are forgotten", Duration::from_mins(1), || {
        agent.count("caios_agent_listeners{delivery=\"handoff\"}") == 0
            && agent.count("caios_agent_cached_identities") == 0
    })?;
    let gone = (memory(agent.id())?, memory(keeper.id())?);
    println!("\n| memory of | agent | keeper |\n| --- | --- | --- |");
    let full_node = format!("{PODS} Pods, {IDENTITIES} identities, {exchanges} exchanges");
    for (when, (agent, keeper)) in [
        ("idle", idle),
        (full_node.as_str(), full),
        ("all Pods gone", gone),
    ] {
        println!("| {when} | {agent} | {keeper} |");
    }
    println!();
    Ok(())
}

/// Enrols one Pod after the other with the shipped `caios-enroll`. In milliseconds: p50 and p99
/// from its start to its exit, and the mean that the agent measured.
fn enroll(agent: &Agent, pods: &[Pod]) -> anyhow::Result<([f64; 2], f64)> {
    let program = binaries::enroll();
    let metric = |end| agent.metric(&format!("caios_agent_enrollment_duration_seconds_{end}"));
    let (sum, count) = (metric("sum")?, metric("count")?);
    let mut took = Vec::with_capacity(pods.len());
    for pod in pods {
        let mut command = pod.enroll_command(&program, "30s");
        let (output, elapsed) = pod.namespace().call(move || {
            let started = Instant::now();
            let output = command.output();
            (output, started.elapsed())
        });
        let output = output.context("failed to start caios-enroll")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "caios-enroll failed: {said}");
        took.push(elapsed);
    }
    took.sort_unstable();
    let mean = (metric("sum")? - sum) / (metric("count")? - count);
    Ok((
        [500, 990].map(|rank| percentile(&took, rank) * 1e3),
        mean * 1e3,
    ))
}

/// The memory of a process, as the kernel counts it.
fn memory(process: u32) -> anyhow::Result<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let value = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("unknown", str::trim)
    };
    let (resident, anonymous) = (value("VmRSS:"), value("RssAnon:"));
    Ok(format!("{resident} resident, {anonymous} of it anonymous"))
}
