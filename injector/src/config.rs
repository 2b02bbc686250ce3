//! Flags become settings: every check, before anything is bound.

mod args;
mod certificates;
mod choices;
mod injection;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use shared::flags::{Flag, Problems};
use shared::telemetry::Log;

pub use self::args::RunArgs;
pub use self::certificates::{Certificates, Managed};
pub use self::choices::{CertificatesFlag, DeliveryFlag, ModeFlag, PullFlag, VolumeFlag};
pub use self::injection::Injection;

const MINUTE: Duration = Duration::from_mins(1);

/// The settings of every part. Holds no secret, so the start line of the log may show it.
#[derive(Clone, Debug)]
pub struct Config {
    /// What Pods get.
    pub injection: Injection,
    /// Where the injector's own token is.
    pub service_account_directory: PathBuf,
    /// How reviews are served.
    pub serve: Serve,
    /// Where the serving certificate comes from.
    pub certificates: Certificates,
    /// Where metrics and probes are.
    pub admin_listen: SocketAddr,
    /// `ServiceAccounts` and namespaces to remember, each.
    pub max_remembered: usize,
    /// What is logged, and how.
    pub log: Log,
}

/// How reviews are served.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Where the API server sends reviews.
    pub listen: SocketAddr,
    /// Time for a whole review.
    pub review_timeout: Duration,
    /// Reviews at once.
    pub max_reviews: usize,
    /// Bytes of one review.
    pub max_review_bytes: usize,
    /// Open connections.
    pub max_connections: usize,
    /// How long connections are still taken after SIGTERM.
    pub shutdown_delay: Duration,
    /// How long reviews in flight may take to end after that.
    pub drain_timeout: Duration,
}

impl Config {
    /// Makes settings of flags.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn new(args: &RunArgs) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let injection = injection::settings(args, &mut problems);
        let serve = serve_settings(args, &mut problems);
        let certificates = certificates::settings(args, &mut problems);
        let admin_listen = address("--admin-listen", &args.admin_listen, &mut problems);
        let max_remembered = problems.count(
            "--max-service-accounts",
            &args.max_service_accounts,
            100..=1_000_000,
        );
        let log = problems.log(&args.log, args.log_format);
        problems.or(Self {
            injection,
            service_account_directory: args.service_account_directory.clone(),
            serve,
            certificates,
            admin_listen,
            max_remembered,
            log,
        })
    }
}

fn serve_settings(args: &RunArgs, problems: &mut Problems) -> Serve {
    Serve {
        listen: address("--listen", &args.listen, problems),
        review_timeout: problems.duration(
            "--review-timeout",
            &args.review_timeout,
            Duration::from_millis(500)..=Duration::from_secs(29),
        ),
        max_reviews: problems.count("--max-reviews", &args.max_reviews, 1..=10_000),
        max_review_bytes: problems.count(
            "--max-review-bytes",
            &args.max_review_bytes,
            65_536..=33_554_432,
        ),
        max_connections: problems.count("--max-connections", &args.max_connections, 16..=100_000),
        shutdown_delay: problems.duration(
            "--shutdown-delay",
            &args.shutdown_delay,
            Duration::ZERO..=MINUTE,
        ),
        drain_timeout: problems.duration(
            "--drain-timeout",
            &args.drain_timeout,
            Duration::ZERO..=5 * MINUTE,
        ),
    }
}

fn address(flag: &str, given: &Flag<SocketAddr>, problems: &mut Problems) -> SocketAddr {
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    problems.read(flag, given, anywhere)
}
