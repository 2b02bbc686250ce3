//! `caios-agent`: see the library for how it works.

use std::ffi::OsString;
use std::io::{Write as _, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::app::App;
use agent::config::{Config, InForce, RunArgs};
use agent::csi::{self, CsiArgs};
use agent::prepare::prepare;
use agent::reattach::{self, ReattachArgs};
use agent::unanswered::Unanswered;
use agent::{check, heir, status, supervise};
use anyhow::Context as _;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use shared::clock::Clock;
use shared::{contract, flags, process, shutdown, telemetry};

/// The agent needs little: its work is memory and sockets. More threads than this would be spent
/// on a node whose cores belong to the Pods.
const WORKERS: usize = 2;

/// Hands CAIOS credentials to the Pods of its node.
#[derive(Parser)]
#[command(name = "caios-agent", version, about)]
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
    /// Runs `run` with the same flags, and starts it again at once when it crashes: the command of a
    /// container.
    ///
    /// Exit codes: those of `run`, or 128 and the signal that ended it. It ends when `run` ends with 0
    /// or 64, after SIGTERM or SIGINT, and when crashes follow each other so steadily that the kubelet
    /// should see them: 10 in a row within 1 s of their start, or 30 in a minute.
    Supervise(Box<RunArgs>),
    /// Shows how the agent of this node is: keys, identities, Pods, and what to do where something
    /// is wrong. To be run in its container: `kubectl exec`.
    ///
    /// Shows neither a key nor a token. Exit codes: 0 when the agent answers, however it is, 1 when
    /// none does, 64 for a flag that makes no sense.
    Status(StatusArgs),
    /// Does in a workload's Pod what an SDK does, step by step, and says what works and what to do
    /// where it does not.
    ///
    /// Prints neither a key nor a token. Exit codes: 0 when everything works, otherwise that of the
    /// first step that does not: 78 the variables of the container, 66 the token, 69 nobody answers,
    /// 77 no credentials, 76 S3; 64 for a flag that makes no sense.
    Check(CheckArgs),
    /// Checks the flags and variables of `run` and prints what is in force; starts nothing.
    ///
    /// Exit codes: 0 when the configuration is good, 64 when it makes no sense.
    CheckConfig(Box<RunArgs>),
    /// Makes the directories of the node's sockets and gives them to the agent's group.
    ///
    /// Needs uid 0 with the agent's group as supplementary group, and no capability. Running it
    /// again changes nothing. Exit codes: 0 when the directories are there, 1 when they cannot be
    /// made or must not be trusted, 64 for a flag that makes no sense.
    Prepare(PrepareArgs),
    /// Serves the kubelet as the driver of our inline CSI volume until SIGTERM, and then until another
    /// driver has taken its place.
    ///
    /// Needs uid 0, to which the kubelet's directories belong, and no capability. Exit codes: 0 after
    /// that, 1 when it cannot start or a part of it fails, 64 for a flag that makes no sense.
    Csi(CsiArgs),
    /// Makes new listeners for Pods that have lost theirs because agent and keeper died together, until
    /// SIGTERM.
    ///
    /// Needs uid 0, `CAP_SYS_ADMIN` and the node's network namespaces. Exit codes: 0 after SIGTERM, 1
    /// when it cannot start, 64 for a flag that makes no sense.
    Reattach(ReattachArgs),
}

#[derive(Args)]
struct PrepareArgs {
    /// Directory on the node; `public` and `private` are made in it.
    #[arg(long, env = "CAIOS_AGENT_DIRECTORY", value_name = "DIRECTORY", default_value = contract::NODE_DIRECTORY)]
    directory: PathBuf,
    /// Group that the agent runs as.
    #[arg(long, env = "CAIOS_AGENT_GROUP", value_name = "GID", default_value_t = contract::AGENT_ID)]
    group: u32,
}

#[derive(Args)]
struct CheckArgs {
    /// S3 endpoint whose buckets are listed; without one, no request is sent to S3.
    #[arg(long, env = "AWS_ENDPOINT_URL_S3", value_name = "URL")]
    endpoint: Option<String>,
    /// Region that the request to S3 is signed for; `AWS_DEFAULT_REGION` counts too.
    #[arg(long, env = "AWS_REGION", value_name = "REGION")]
    region: Option<String>,
    /// Audience that the token must have; without one, the agent's word counts.
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    /// URL of the agent.
    #[arg(long, env = contract::CREDENTIALS_URI_VARIABLE, value_name = "URL", hide_env_values = true)]
    url: Option<String>,
    /// The Pod's service account token.
    #[arg(long, env = contract::TOKEN_FILE_VARIABLE, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Args)]
struct StatusArgs {
    /// Prints the document that the table is made of.
    #[arg(long)]
    json: bool,
    /// Directory with the sockets that are for the agent's containers alone.
    #[arg(long, env = "CAIOS_AGENT_PRIVATE_DIRECTORY", value_name = "DIRECTORY", default_value = contract::PRIVATE_DIRECTORY)]
    private_directory: PathBuf,
}

fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli.command, matches))
    });
    let (command, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(instead) => return flags::not_parsed(&instead),
    };
    let done = match command {
        Command::Run(args) => configured(*args).map(run),
        Command::Supervise(args) => configured(*args).and_then(supervised),
        Command::CheckConfig(args) => configured(*args).map(|config| {
            let flags = matches.subcommand().map(|(_, matches)| matches);
            flags.map_or(Ok(()), |flags| show(&InForce::new(flags, &config)))
        }),
        Command::Check(args) => match checked(args) {
            Ok(0) => Ok(Ok(())),
            Ok(code) => Err(ExitCode::from(code)),
            Err(error) => Ok(Err(error)),
        },
        Command::Status(args) => Ok(show_status(&args)),
        Command::Prepare(args) => Ok(prepared(&args.directory, args.group)),
        Command::Csi(args) => match args.settings() {
            Ok(settings) => Ok(driven(settings)),
            Err(problems) => Err(senseless(&problems)),
        },
        Command::Reattach(args) => match args.settings() {
            Ok(settings) => Ok(reattached(settings)),
            Err(problems) => Err(senseless(&problems)),
        },
    };
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
        Err(code) => code,
    }
}

/// Makes settings of flags; what is wrong with them is said.
fn configured(args: RunArgs) -> Result<Config, ExitCode> {
    // A container in a cluster has this; a shell does not.
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    Config::new(args, in_cluster).map_err(|problems| senseless(&problems))
}

/// Says what is wrong with the flags; what to exit with.
fn senseless(problems: &flags::Problems) -> ExitCode {
    say(&format!("the configuration makes no sense:\n{problems}"));
    ExitCode::from(flags::USAGE)
}

/// Runs the CSI driver.
fn driven(settings: csi::Settings) -> anyhow::Result<()> {
    process::keep_memory_private().context("failed to turn core dumps off")?;
    process::raise_descriptor_limit().context("failed to raise the descriptor limit")?;
    telemetry::init(&settings.log)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?settings, "starting");
    alone()?.block_on(async {
        let shutdown = shutdown::on_signals().context("failed to take over the signals")?;
        csi::run(settings, shutdown).await
    })
}

/// Brings listeners to Pods that have lost theirs.
fn reattached(settings: reattach::Settings) -> anyhow::Result<()> {
    telemetry::init(&settings.log)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?settings, "starting");
    alone()?.block_on(async {
        let shutdown = shutdown::on_signals().context("failed to take over the signals")?;
        reattach::run(settings, shutdown).await;
        Ok(())
    })
}

/// Supervises a worker with the flags of this process: an error is what to end with.
fn supervised(config: Config) -> Result<anyhow::Result<()>, ExitCode> {
    let ended = telemetry::init(&config.log).context("failed to set up logging");
    // The worker makes its own; here it would only take memory.
    drop(config);
    let flags: Vec<OsString> = std::env::args_os().skip(2).collect();
    match ended.and_then(|()| supervise::supervise(&flags).context("failed to supervise")) {
        Ok(0) => Ok(Ok(())),
        Ok(code) => Err(ExitCode::from(code)),
        Err(error) => Ok(Err(error)),
    }
}

fn show(in_force: &InForce) -> anyhow::Result<()> {
    write!(stdout(), "{in_force}").context("failed to print")
}

/// Checks what an SDK would find, and gives the exit code.
fn checked(args: CheckArgs) -> anyhow::Result<u8> {
    process::keep_memory_private().context("failed to turn core dumps off")?;
    let variable = |name: &str| std::env::var(name).ok();
    // A variable may be set to nothing, and then is not set.
    let says = |value: &String| !value.is_empty();
    let settings = check::Settings {
        url: args.url,
        token_file: args.token_file,
        audience: args.audience,
        region: args
            .region
            .filter(says)
            .or_else(|| variable("AWS_DEFAULT_REGION")),
        endpoint: args.endpoint.filter(says),
    };
    let clock = Clock::system();
    let mut out = stdout();
    let report = alone()?
        .block_on(check::check(&settings, variable, || clock.now(), &mut out))
        .context("failed to print")?;
    Ok(report.exit_code())
}

fn show_status(args: &StatusArgs) -> anyhow::Result<()> {
    let socket = args.private_directory.join(contract::ADMIN_SOCKET);
    let text = alone()?.block_on(status::ask(&socket))?;
    let shown = if args.json {
        format!("{text}\n")
    } else {
        status::render(&status::read(&socket, &text)?)
    };
    stdout()
        .write_all(shown.as_bytes())
        .context("failed to print")
}

/// A runtime for a command that asks one thing.
fn alone() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime
        .enable_all()
        .build()
        .context("failed to build the runtime")
}

fn prepared(directory: &Path, group: u32) -> anyhow::Result<()> {
    prepare(directory, group)?;
    let shown = directory.display();
    say(&format!("`{shown}` is ready for an agent of group {group}"));
    Ok(())
}

fn run(config: Config) -> anyhow::Result<()> {
    supervise::end_with_supervisor().context("failed to follow the supervisor")?;
    process::keep_memory_private().context("failed to turn core dumps off")?;
    let descriptors =
        process::raise_descriptor_limit().context("failed to raise the descriptor limit")?;
    telemetry::init(&config.log)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        ?descriptors,
        ?config,
        "starting"
    );
    let unanswered = Unanswered::new().context("failed to make sockets")?;
    // While there is one thread.
    let heir = heir::leave(&unanswered)
        .inspect_err(|error| {
            tracing::warn!(%error, "no heir: a crash loses connections that are waiting");
        })
        .ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("failed to build the runtime")?;
    let ended = runtime.block_on(async {
        let shutdown = shutdown::on_signals()
            .and_then(|shutdown| supervise::unblock_signals().map(|()| shutdown))
            .context("failed to take over the signals")?;
        let app = App::bind(config, descriptors, unanswered).await?;
        app.run(shutdown).await
    });
    // A descriptor of a hostile Pod may block the thread that closes it; the end does not wait.
    runtime.shutdown_background();
    if let (Ok(()), Some(heir)) = (&ended, heir) {
        heir.dismiss();
    }
    ended
}

/// Writes one line to standard error.
fn say(what: &str) {
    let _ = writeln!(stderr(), "caios-agent: {what}");
}
