//! `make demo`: the main job for real, without a cluster.
//!
//! Three Pods of two ServiceAccounts on one node, each a network namespace of its own: the real
//! agent, the real `caios-enroll`, the real AWS CLI and boto3, and a stand-in for the cluster's
//! issuer, CoreWeave's API and an S3 server that checks signatures. It ends with what happened.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(
    clippy::indexing_slicing,
    reason = "JSON that lacks a member gives null"
)]

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tests::agent::{ADMIN, Agent};
use tests::node::Node;
use tests::pod::Pod;
use tokio::time::Instant;

/// Processes that each Pod starts at once, as data loaders do.
const PROCESSES: u32 = 8;
/// S3 reads of each of them.
const READS: u32 = 25;

fn main() -> anyhow::Result<()> {
    let shell = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--shell") => true,
        Some(other) => bail!("unknown argument `{other}`; there is only --shell"),
    };
    let demo = Demo::start()?;
    if shell {
        return demo.shell();
    }
    demo.list_buckets()?;
    demo.put_and_get()?;
    let storm = demo.storm()?;
    demo.outage()?;
    demo.summary(&storm)
}

/// What runs while the demo does.
struct Demo {
    pods: Vec<Pod>,
    agent: Agent,
    node: Node,
}

/// What the processes of all Pods saw together.
#[derive(Default)]
struct Storm {
    calls: u64,
    errors: u64,
    seconds: f64,
}

impl Demo {
    /// Brings up the node, the agent and three enrolled Pods.
    fn start() -> anyhow::Result<Self> {
        step("a node with a stand-in for the issuer, CoreWeave's API and S3");
        let node = Node::new()?;
        let agent = node.agent(&[])?;
        println!("    agent ready; its log: {}", node.agent_log().display());
        step("three Pods, each a network namespace: two of `trainer`, one of `evaluator`");
        let mut pods = Vec::new();
        for (name, service_account) in [
            ("train-0", "trainer"),
            ("train-1", "trainer"),
            ("eval-0", "evaluator"),
        ] {
            let pod = node.pod(service_account, name)?;
            let enrolled = pod.enroll("30s")?;
            print_output(&enrolled);
            ensure!(enrolled.status.success(), "caios-enroll failed in {name}");
            pods.push(pod);
        }
        Ok(Self { pods, agent, node })
    }

    /// AWS CLI, unmodified, with no configuration.
    fn list_buckets(&self) -> anyhow::Result<()> {
        step("AWS CLI in every Pod: aws s3api list-buckets");
        for pod in &self.pods {
            let listed = client(pod, "aws", &["s3api", "list-buckets"])?;
            let listed: serde_json::Value = serde_json::from_str(&listed)?;
            println!("    {}: {}", pod.identity.name, listed["Buckets"]);
        }
        Ok(())
    }

    /// boto3, 50 MB there and back.
    fn put_and_get(&self) -> anyhow::Result<()> {
        step("boto3 in every Pod: 50 MB written and read back with checksums");
        for pod in &self.pods {
            let line = client_of(pod, "put-get", "checkpoint", &["--megabytes", "50"])?;
            let line: serde_json::Value = serde_json::from_str(&line)?;
            println!(
                "    {}: put {} MB/s, get {} MB/s, sha256 equal: {}",
                pod.identity.name, line["put_mb_per_s"], line["get_mb_per_s"], line["sha256_equal"]
            );
        }
        Ok(())
    }

    /// All processes of all Pods at once.
    fn storm(&self) -> anyhow::Result<Storm> {
        step(&format!(
            "boto3, {PROCESSES} processes × {READS} reads in every Pod at once"
        ));
        let started = Instant::now();
        let (processes, reads) = (PROCESSES.to_string(), READS.to_string());
        let arguments = ["--processes", &processes, "--gets", &reads];
        let lines: Vec<anyhow::Result<String>> = std::thread::scope(|scope| {
            let running: Vec<_> = self
                .pods
                .iter()
                .map(|pod| scope.spawn(|| client(pod, "storm", &arguments)))
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
                .collect()
        });
        let mut storm = Storm {
            seconds: started.elapsed().as_secs_f64(),
            ..Storm::default()
        };
        for (pod, line) in self.pods.iter().zip(lines) {
            let line: serde_json::Value = serde_json::from_str(&line?)?;
            storm.calls += line["calls"].as_u64().unwrap_or_default();
            storm.errors += line["errors"].as_u64().unwrap_or_default();
            println!(
                "    {}: {} reads, {} errors, p50 {} ms, p99 {} ms",
                pod.identity.name, line["calls"], line["errors"], line["p50_ms"], line["p99_ms"]
            );
        }
        Ok(storm)
    }

    /// CoreWeave's API goes away, the Pods do not notice.
    fn outage(&self) -> anyhow::Result<()> {
        step("CoreWeave's API is stopped: connections to it are refused");
        self.node.stop_api();
        for pod in &self.pods {
            client(pod, "boto3", &[])?;
            println!(
                "    {}: a new boto3 process reads its object as before",
                pod.identity.name
            );
        }
        Ok(())
    }

    /// What happened, and where to look.
    fn summary(&self, storm: &Storm) -> anyhow::Result<()> {
        let outcome = |name: &str| {
            self.agent
                .metric(&format!("caios_agent_requests_total{{outcome=\"{name}\"}}"))
        };
        let served = outcome("hit")? + outcome("miss")? + outcome("coalesced")?;
        let exchanges = self.node.standin().calls().exchanges();
        // Each Pod: one CLI process, one for 50 MB, the storm, one during the outage.
        let processes = self.pods.len() * (PROCESSES as usize + 3);
        let latency = self.latency()?;
        step("what happened");
        println!("    credential requests served      {served}");
        println!("    exchanges with CoreWeave        {exchanges}");
        println!("    exchanges without the agent     {processes} at least: one for each process");
        println!(
            "    S3 reads at once                {} in {:.1} s",
            storm.calls, storm.seconds
        );
        println!("    errors that a client saw        {}", storm.errors);
        println!(
            "    a cached answer                 p50 {:.0} µs, p99 {:.0} µs (new connection each)",
            latency.0, latency.1
        );
        println!("    the agent's metrics             http://{ADMIN}/metrics on the node:\n");
        for line in self.agent.admin("/metrics")?.body.lines() {
            let shown = [
                "requests_total",
                "exchange_requests_total",
                "listeners",
                "seconds_until",
            ];
            let zero = line.ends_with(" 0");
            if !zero
                && shown
                    .iter()
                    .any(|name| line.starts_with(&format!("caios_agent_{name}")))
            {
                println!("      {line}");
            }
        }
        println!("\n    make demo-shell opens a shell inside a Pod, to try things by hand");
        ensure!(
            exchanges == 2,
            "{exchanges} exchanges were made where 2 identities need 2"
        );
        ensure!(storm.errors == 0, "{} reads failed", storm.errors);
        Ok(())
    }

    /// Median and 99th percentile of a cached answer, in microseconds, as a Pod sees it.
    fn latency(&self) -> anyhow::Result<(f64, f64)> {
        let pod = self.pods.first().context("there are Pods")?;
        let token = pod.token()?;
        let mut samples = pod.namespace().run(async move {
            let mut samples = Vec::new();
            for _ in 0..500 {
                let started = Instant::now();
                let path = shared::contract::CREDENTIALS_PATH;
                tests::http::get(Pod::listener(), path, Some(&token)).await?;
                samples.push(started.elapsed());
            }
            anyhow::Ok(samples)
        })?;
        samples.sort_unstable();
        let at = |share: usize| {
            samples
                .get(samples.len() * share / 100)
                .map_or(0.0, Duration::as_secs_f64)
                * 1e6
        };
        Ok((at(50), at(99)))
    }

    /// A shell inside the first Pod, with everything up until it ends.
    fn shell(self) -> anyhow::Result<()> {
        let pod = self.pods.first().context("there are Pods")?;
        step(&format!(
            "a shell inside the Pod {}; leave it with `exit`",
            pod.identity.name
        ));
        println!(
            "    try: {run} aws s3api list-buckets\n    or:  curl -i -H \"Authorization: $(cat \
             $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)\" $AWS_CONTAINER_CREDENTIALS_FULL_URI",
            run = run_script().display()
        );
        let mut shell =
            pod.command(std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned()));
        shell.env("TERM", std::env::var("TERM").unwrap_or_default());
        shell
            .stdin(std::process::Stdio::inherit())
            .arg0("caios-demo");
        pod.namespace().call(move || shell.status())?;
        Ok(())
    }
}

fn step(what: &str) {
    println!("\n==> {what}");
}

fn run_script() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/run.sh"))
}

/// Runs a real client inside a Pod; what it prints when it succeeds.
fn client(pod: &Pod, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
    client_of(pod, name, "object", arguments)
}

/// The same with the S3 object `key`.
fn client_of(pod: &Pod, name: &str, key: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command: Command = pod.command(run_script());
    command.arg(name).args(arguments).env("S3_KEY", key);
    let output = pod.output(command)?;
    if !output.status.success() {
        print_output(&output);
        bail!(
            "`{name}` failed in {}: {}",
            pod.identity.name,
            output.status
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn print_output(output: &Output) {
    for line in [&output.stdout, &output.stderr]
        .iter()
        .flat_map(|text| text.split(|b| *b == b'\n'))
    {
        if !line.is_empty() {
            println!("    {}", String::from_utf8_lossy(line));
        }
    }
}
