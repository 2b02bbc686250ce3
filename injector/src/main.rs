//! `caios-injector`: see the library for how it works.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use injector::app::App;
use injector::config::{Config, RunArgs};
use shared::{flags, process, shutdown, telemetry};

/// Reviews are short, and a replica must not take a control plane's cores.
const WORKERS: usize = 2;

/// Points annotated Pods at their node's agent.
#[derive(Parser)]
#[command(name = "caios-injector", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers the reviews of new Pods until SIGTERM, then drains and exits 0.
    ///
    /// Exit codes: 0 after a drain, 1 when it cannot start or a part of it fails, 64 when the
    /// configuration makes no sense.
    Run(Box<RunArgs>),
    /// Checks the flags of `run` and prints what they mean, without a cluster.
    ///
    /// Exit codes: 0 when they make sense, 64 when they do not.
    CheckConfig(Box<RunArgs>),
}

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(instead) => return flags::not_parsed(&instead),
    };
    let (Command::Run(args) | Command::CheckConfig(args)) = &command;
    let config = match Config::new(args) {
        Ok(config) => config,
        Err(problems) => {
            complain(&format!("the configuration makes no sense:\n{problems}"));
            return ExitCode::from(flags::USAGE);
        }
    };
    if let Command::CheckConfig(_) = command {
        let _ = writeln!(std::io::stdout(), "{config:#?}");
        return ExitCode::SUCCESS;
    }
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
    process::raise_descriptor_limit().context("failed to raise the descriptor limit")?;
    telemetry::init(&config.log)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?config, "starting");
    // rustls asks for it by name wherever it is not handed one.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider
        .install_default()
        .map_err(|_installed| anyhow::anyhow!("failed to set up TLS, which must be done once"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("failed to build the runtime")?;
    let ended = runtime.block_on(async {
        let shutdown = shutdown::on_signals().context("failed to take over the signals")?;
        App::bind(config).await?.run(shutdown).await
    });
    runtime.shutdown_background();
    ended
}

fn complain(what: &str) {
    let _ = writeln!(std::io::stderr(), "caios-injector: {what}");
}
