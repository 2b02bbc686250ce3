//! Flags become settings: every check, before anything is bound.

mod args;
mod problems;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use shared::telemetry::{self, Format};

pub use args::{KeysFrom, LogFormat, RunArgs};
pub use problems::{Flag, Problems};

use crate::{cache, enrolment, exchange, identity};

/// Stands in for a URL that is missing, so that the check can go on.
const NOWHERE: &str = "https://localhost";
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// The settings of every part. Holds no secret, so the start line of the log may show it.
#[derive(Clone, Debug)]
pub struct Config {
    /// How tokens are verified.
    pub identity: identity::Settings,
    /// Where the issuer's keys come from.
    pub keys: identity::KeySource,
    /// How tokens are exchanged.
    pub exchange: exchange::settings::Settings,
    /// How credentials are kept.
    pub cache: cache::Policy,
    /// How listeners of Pods are taken.
    pub enrolment: enrolment::Settings,
    /// How connections are served.
    pub serve: Serve,
    /// Where metrics and probes are.
    pub admin_listen: SocketAddr,
    /// How often it is checked whether enrolled Pods are still there.
    pub poll_interval: Duration,
    /// What is logged, and how.
    pub log: Log,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// A filter in the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// The form of a line.
    pub format: Format,
}

/// How connections of workloads are served.
#[derive(Clone, Debug)]
pub struct Serve {
    /// The socket of the `direct` delivery.
    pub agent_socket: PathBuf,
    /// Connections of all workloads together.
    pub max_connections: usize,
    /// Connections of one listener.
    pub max_connections_per_listener: usize,
    /// Time for a request's head.
    pub header_timeout: Duration,
    /// How long a kept-alive connection may idle.
    pub idle_timeout: Duration,
    /// How long requests in flight may take to end at shutdown.
    pub drain_timeout: Duration,
}

impl Config {
    /// Makes settings of flags. `in_cluster` says whether the process runs in a Pod, which decides
    /// where the issuer's keys come from by default.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn new(args: RunArgs, in_cluster: bool) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let (identity, keys) = identity_settings(&args, in_cluster, &mut problems);
        let cache = cache_policy(&args, &mut problems);
        let enrolment = enrolment_settings(&args, &mut problems);
        let serve = serve_settings(&args, &mut problems);
        let admin = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let admin_listen = problems.read("--admin-listen", &args.admin_listen, admin);
        let poll_interval = problems.duration(
            "--poll-interval",
            &args.poll_interval,
            Duration::from_secs(1)..=10 * MINUTE,
        );
        let log = log(&args, &mut problems);
        let exchange = exchange_settings(args, &mut problems);
        problems.or(Self {
            identity,
            keys,
            exchange,
            cache,
            enrolment,
            serve,
            admin_listen,
            poll_interval,
            log,
        })
    }
}

fn log(args: &RunArgs, problems: &mut Problems) -> Log {
    if let Err(error) = telemetry::check(&args.log) {
        problems.add(format!("`--log` is `{}`: {error}", args.log));
    }
    let format = match args.log_format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    };
    Log {
        filter: args.log.clone(),
        format,
    }
}

fn identity_settings(
    args: &RunArgs,
    in_cluster: bool,
    problems: &mut Problems,
) -> (identity::Settings, identity::KeySource) {
    let capacity = problems.count(
        "--max-remembered-tokens",
        &args.max_remembered_tokens,
        16..=1_000_000,
    );
    let settings = identity::Settings {
        issuer: args.issuer.clone(),
        audiences: args.audiences.clone(),
        node: args.node_name.clone(),
        leeway: problems.duration(
            "--clock-skew",
            &args.clock_skew,
            Duration::ZERO..=5 * MINUTE,
        ),
        memo_capacity: capacity as u64,
    };
    let from = args
        .keys_from
        .unwrap_or(match (&args.jwks_file, &args.jwks_url) {
            (Some(_), _) => KeysFrom::File,
            (None, Some(_)) => KeysFrom::Url,
            (None, None) if in_cluster => KeysFrom::ApiServer,
            (None, None) => KeysFrom::Issuer,
        });
    for (flag, given, used) in [
        (
            "--jwks-file",
            args.jwks_file.is_some(),
            from == KeysFrom::File,
        ),
        ("--jwks-url", args.jwks_url.is_some(), from == KeysFrom::Url),
    ] {
        if given && !used {
            problems.add(format!(
                "`{flag}` is given, but the keys come from elsewhere"
            ));
        }
    }
    let ca_file = args.issuer_ca_file.clone();
    let keys = match from {
        KeysFrom::ApiServer => identity::KeySource::ApiServer {
            url: url("--api-server-url", &args.api_server_url, problems),
            ca_file: Some(args.service_account_directory.join("ca.crt")),
            token_file: args.service_account_directory.join("token"),
        },
        KeysFrom::Issuer => {
            if args.issuer.is_none() {
                problems.add("`--issuer` is missing: outside a cluster nothing else names it");
            }
            identity::KeySource::Issuer {
                issuer: args.issuer.clone().unwrap_or_default(),
                ca_file,
            }
        }
        KeysFrom::Url => {
            if args.jwks_url.is_none() {
                problems.add("`--jwks-url` is missing: `--keys-from url` needs it");
            }
            let jwks_url = args.jwks_url.as_deref().unwrap_or(NOWHERE);
            identity::KeySource::Url {
                url: url("--jwks-url", jwks_url, problems),
                ca_file,
            }
        }
        KeysFrom::File => {
            if args.jwks_file.is_none() {
                problems.add("`--jwks-file` is missing: `--keys-from file` needs it");
            }
            identity::KeySource::File(args.jwks_file.clone().unwrap_or_default())
        }
    };
    if matches!(from, KeysFrom::Url | KeysFrom::File) && args.issuer.is_none() {
        problems.add("`--issuer` is missing: a bare key set does not name it");
    }
    (settings, keys)
}

fn exchange_settings(args: RunArgs, problems: &mut Problems) -> exchange::settings::Settings {
    if args.org_id.is_none() {
        problems.add("`--org-id` is missing: the CoreWeave organisation that mints the keys");
    }
    let mut settings =
        exchange::settings::Settings::new(args.org_id.as_deref().unwrap_or("missing"));
    settings.api = url("--api-url", &args.api_url, problems);
    settings.duration = problems.duration(
        "--credential-duration",
        &args.credential_duration,
        15 * MINUTE..=12 * HOUR,
    );
    settings.connect_timeout = problems.duration(
        "--exchange-connect-timeout",
        &args.exchange_connect_timeout,
        Duration::from_millis(100)..=Duration::from_secs(30),
    );
    settings.timeout = problems.duration(
        "--exchange-timeout",
        &args.exchange_timeout,
        Duration::from_millis(500)..=MINUTE,
    );
    settings.attributes = attributes(&args.attributes, problems);
    settings.session_token_placeholder = args.session_token_placeholder.into();
    settings.ca_file = args.ca_file;
    for problem in settings.problems() {
        problems.add(problem.to_string());
    }
    settings
}

/// The URL that `flag` gives; what stands in for one that cannot be read is never used.
fn url(flag: &str, given: &str, problems: &mut Problems) -> Url {
    given.parse().unwrap_or_else(|error| {
        problems.add(format!("`{flag}` is `{given}`: {error}"));
        #[expect(clippy::expect_used, reason = "a constant that a test parses")]
        NOWHERE.parse().expect("the URL is valid")
    })
}

fn attributes(given: &[String], problems: &mut Problems) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    for attribute in given {
        match attribute.split_once('=') {
            Some((key, value)) => {
                attributes.insert(key.to_owned(), value.to_owned());
            }
            None => problems.add(format!("`--attribute` is `{attribute}`: must be KEY=VALUE")),
        }
    }
    attributes
}

fn cache_policy(args: &RunArgs, problems: &mut Problems) -> cache::Policy {
    let seconds = Duration::from_secs;
    cache::Policy {
        hold_limit: problems.duration("--hold-limit", &args.hold_limit, seconds(1)..=MINUTE),
        min_remaining: problems.duration(
            "--min-remaining",
            &args.min_remaining,
            Duration::ZERO..=6 * HOUR,
        ),
        max_identities: problems.count("--max-identities", &args.max_identities, 1..=100_000)
            as u64,
        max_held_requests: problems.count(
            "--max-held-requests",
            &args.max_held_requests,
            1..=100_000,
        ),
        max_exchanges: problems.count("--max-exchanges", &args.max_exchanges, 1..=1_000),
        refusal_memory: problems.duration(
            "--refusal-memory",
            &args.refusal_memory,
            Duration::ZERO..=5 * MINUTE,
        ),
        ..cache::Policy::default()
    }
}

fn enrolment_settings(args: &RunArgs, problems: &mut Problems) -> enrolment::Settings {
    enrolment::Settings {
        mode: args.enrolment_mode,
        max_blocking: problems.count("--max-enrolments", &args.max_enrolments, 1..=64),
        max_pods: problems.count("--max-pods", &args.max_pods, 1..=100_000),
        ..enrolment::Settings::new(args.public_directory.join(shared::contract::ENROLL_SOCKET))
    }
}

fn serve_settings(args: &RunArgs, problems: &mut Problems) -> Serve {
    let milliseconds = Duration::from_millis;
    Serve {
        agent_socket: args.public_directory.join(shared::contract::AGENT_SOCKET),
        max_connections: problems.count("--max-connections", &args.max_connections, 16..=1_000_000),
        max_connections_per_listener: problems.count(
            "--max-connections-per-listener",
            &args.max_connections_per_listener,
            1..=100_000,
        ),
        header_timeout: problems.duration(
            "--header-timeout",
            &args.header_timeout,
            milliseconds(100)..=MINUTE,
        ),
        idle_timeout: problems.duration(
            "--idle-timeout",
            &args.idle_timeout,
            milliseconds(1_000)..=HOUR,
        ),
        drain_timeout: problems.duration(
            "--drain-timeout",
            &args.drain_timeout,
            Duration::ZERO..=5 * MINUTE,
        ),
    }
}
