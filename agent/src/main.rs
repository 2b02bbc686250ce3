//! `caios-agent`: see the library for how it works.

use std::io::Write as _;
use std::process::ExitCode;

use agent::app::App;
use agent::config::{Config, RunArgs};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use shared::process;
use shared::{shutdown, telemetry};

/// `EX_USAGE` of sysexits(3): the flags make no sense, and trying again would not help.
const USAGE: u8 = 64;
/// The agent needs little: its work is memory and sockets. More threads than this would be spent
/// on a node whose cores belong to the Pods.
const WORKERS: usize = 2;

/// Hands CAIOS credentials to the Pods of its node.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verifies, exchanges, caches, renews and serves until SIGTERM, then drains and exits 0.
    ///
    /// Exit codes: 0 after a drain, 1 when it cannot start or a part of it fails, 64 when the
    /// configuration makes no sense.
    Run(Box<RunArgs>),
}

fn main() -> ExitCode {
    let Command::Run(args) = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(asked) => {
            // Asking for help is no mistake, but it comes this way too.
            let _ = asked.print();
            return if asked.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    // A container in a cluster has this; a shell does not.
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let config = match Config::new(*args, in_cluster) {
        Ok(config) => config,
        Err(problems) => {
            complain(&format!("the configuration makes no sense:\n{problems}"));
            return ExitCode::from(USAGE);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    process::keep_memory_private().context("failed to turn core dumps off")?;
    let descriptors =
        process::raise_descriptor_limit().context("failed to raise the descriptor limit")?;
    telemetry::init(&config.log.filter, config.log.format)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        ?descriptors,
        ?config,
        "starting"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("failed to build the runtime")?;
    let ended = runtime.block_on(async {
        let shutdown = shutdown::on_signals().context("failed to take over the signals")?;
        App::bind(config, descriptors).await?.run(shutdown).await
    });
    // A descriptor of a hostile Pod may block the thread that closes it; the end does not wait.
    runtime.shutdown_background();
    ended
}

fn complain(what: &str) {
    let _ = writeln!(std::io::stderr(), "caios-agent: {what}");
}
