//! A real Prometheus that scrapes the binaries, and promtool.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::http;
use crate::namespace::Namespace;
use crate::server::Server;
use crate::tools;

const START: Duration = Duration::from_mins(1);

/// A running Prometheus that scrapes every second. Killed when dropped.
pub struct Prometheus {
    network: Arc<Namespace>,
    address: SocketAddr,
    server: Server,
}

impl Prometheus {
    /// Starts one inside `network` on `address`, with its files in `directory`, and waits until it
    /// is ready. Each target is a job and an address with `/metrics`.
    ///
    /// # Errors
    /// When it is not installed or does not start; the error shows the end of its log.
    pub fn start(
        network: &Arc<Namespace>,
        directory: &Path,
        address: SocketAddr,
        targets: &[(&str, SocketAddr)],
    ) -> anyhow::Result<Self> {
        let mut configuration = "global: { scrape_interval: 1s }\nscrape_configs:\n".to_owned();
        for (job, target) in targets {
            writeln!(
                configuration,
                "- {{ job_name: {job}, static_configs: [{{ targets: ['{target}'] }}] }}"
            )?;
        }
        let file = directory.join("prometheus.yml");
        fs::write(&file, configuration)?;
        let mut command = Command::new(tools::program("prometheus", "prometheus")?);
        command.arg(format!("--config.file={}", file.display()));
        let data = directory.join("prometheus");
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address={address}"));
        let log = directory.join("prometheus.log");
        let mut started = Self {
            network: Arc::clone(network),
            address,
            server: Server::spawn(network, &command, &log)?,
        };
        let (asked, address) = (Arc::clone(network), started.address);
        started.server.until("is ready", START, || {
            ask(&asked, address, "/-/ready").is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(started)
    }

    /// The value of every series that an expression gives now, with its labels.
    ///
    /// # Errors
    /// When Prometheus does not answer or refuses the expression.
    pub fn query(&self, expression: &str) -> anyhow::Result<Vec<(Value, f64)>> {
        let mut path = "/api/v1/query?query=".to_owned();
        for byte in expression.bytes() {
            write!(path, "%{byte:02X}")?;
        }
        let answer = ask(&self.network, self.address, &path)?;
        let status = answer.status;
        ensure!(status == 200, "`{expression}`: {status} {}", answer.body);
        let body: Value = serde_json::from_str(&answer.body)?;
        let results = body.pointer("/data/result").and_then(Value::as_array);
        let results = results.context("the answer has no result")?.iter();
        results
            .map(|result| {
                let value = result.pointer("/value/1").and_then(Value::as_str);
                let value = value.context("a result has no value")?.parse()?;
                Ok((result.get("metric").cloned().unwrap_or_default(), value))
            })
            .collect()
    }
}

/// Has promtool look at a metrics page; what it complains about.
///
/// # Errors
/// When it is not installed.
pub fn check_metrics(page: &str) -> anyhow::Result<String> {
    let mut command = Command::new(tools::program("prometheus", "promtool")?);
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("failed to start promtool")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(page.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() && said.is_empty() {
        said = output.status.to_string();
    }
    Ok(said)
}

fn ask(network: &Namespace, address: SocketAddr, path: &str) -> anyhow::Result<http::Answer> {
    // Go's servers insist on a `Host`, and answer HTTP/1.0 without chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n");
    network.run(http::send(address, request.into_bytes()))
}
