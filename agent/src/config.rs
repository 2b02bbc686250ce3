//! Flags become settings: every check, before anything is bound.

mod args;
mod exchange;
mod identity;
mod in_force;
#[cfg(test)]
mod tests;
mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use shared::telemetry::Log;

pub use args::{KeysFrom, RunArgs};
pub use in_force::InForce;
use shared::flags::Problems;

use crate::exchange::settings::Settings as ExchangeSettings;
use crate::identity::{KeySource, Settings as IdentitySettings};
use crate::{cache, enrolment, link, watch as pod_watch};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// The settings of every part. Holds no secret, so the start line of the log may show it.
#[derive(Clone, Debug)]
pub struct Config {
    /// How tokens are verified.
    pub identity: IdentitySettings,
    /// Where the issuer's keys come from.
    pub keys: KeySource,
    /// How tokens are exchanged.
    pub exchange: ExchangeSettings,
    /// How credentials are kept.
    pub cache: cache::Policy,
    /// How listeners of Pods are taken.
    pub enrolment: enrolment::Settings,
    /// Where the keeper is; `None`: there is none.
    pub keeper: Option<link::Settings>,
    /// How connections are served.
    pub serve: Serve,
    /// Where metrics and probes are.
    pub admin_listen: SocketAddr,
    /// Where `caios-agent status` asks.
    pub admin_socket: PathBuf,
    /// Where the CSI driver hands over the sockets of its volumes.
    pub csi_socket: PathBuf,
    /// The socket where Pods that have lost their listeners get new ones, in the same directory.
    pub reattach_socket: PathBuf,
    /// How often it is checked whether enrolled Pods are still there.
    pub poll_interval: Duration,
    /// How this node's Pods are watched; `None` where they are not.
    pub watch: Option<pod_watch::Settings>,
    /// What is logged, and how.
    pub log: Log,
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
    /// How long an agent that is to end serves on until another has taken its place.
    pub handover_timeout: Duration,
}

impl Config {
    /// Makes settings of flags. `in_cluster` says whether the process runs in a Pod, which decides
    /// where the issuer's keys come from, and whether Pods are watched, by default.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn new(args: RunArgs, in_cluster: bool) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let (identity, keys) = identity::settings(&args, in_cluster, &mut problems);
        let cache = cache_policy(&args, &mut problems);
        let enrolment = enrolment_settings(&args, &mut problems);
        let keeper = keeper_settings(&args, &mut problems);
        let serve = serve_settings(&args, &mut problems);
        let admin = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let admin_listen = problems.read("--admin-listen", &args.admin_listen, admin);
        let poll_interval = problems.duration(
            "--poll-interval",
            &args.poll_interval,
            Duration::from_secs(1)..=10 * MINUTE,
        );
        let admin_socket = args.private_directory.join(shared::contract::ADMIN_SOCKET);
        let csi_socket = args.private_directory.join(shared::contract::CSI_SOCKET);
        let reattach_socket = args
            .private_directory
            .join(shared::contract::REATTACH_SOCKET);
        let watch = watch::settings(&args, &keys, in_cluster, &mut problems);
        let log = problems.log(&args.log, args.log_format);
        let exchange = exchange::settings(args, &mut problems);
        problems.or(Self {
            identity,
            keys,
            exchange,
            cache,
            enrolment,
            keeper,
            serve,
            admin_listen,
            admin_socket,
            csi_socket,
            reattach_socket,
            poll_interval,
            watch,
            log,
        })
    }
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
        max_pods_per_identity: problems.count(
            "--max-pods-per-identity",
            &args.max_pods_per_identity,
            1..=100_000,
        ),
        max_held_requests: problems.count(
            "--max-held-requests",
            &args.max_held_requests,
            1..=100_000,
        ),
        max_exchanges: problems.count("--max-exchanges", &args.max_exchanges, 1..=1_000),
        refusal_memory: problems.duration(
            "--refusal-memory",
            &args.refusal_memory,
            seconds(1)..=5 * MINUTE,
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

fn keeper_settings(args: &RunArgs, problems: &mut Problems) -> Option<link::Settings> {
    let socket = args.keeper_socket.clone()?;
    let instance = args.instance.clone();
    if !(1..=keeper::protocol::MAX_INSTANCE_BYTES).contains(&instance.len()) {
        let most = keeper::protocol::MAX_INSTANCE_BYTES;
        problems.add(format!("`--instance` must have 1 to {most} bytes"));
    }
    Some(link::Settings { socket, instance })
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
        handover_timeout: problems.duration(
            "--handover-timeout",
            &args.handover_timeout,
            Duration::ZERO..=5 * MINUTE,
        ),
    }
}
