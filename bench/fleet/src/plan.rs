//! What happens to the fleet.

use std::path::PathBuf;
use std::time::Duration;

/// A simulated day of a fleet.
#[derive(Clone, Debug, clap::Parser)]
#[command(about = "Simulates the exchanges of a fleet of agents")]
pub struct Plan {
    /// Nodes, each with a cache of its own.
    #[arg(long, default_value_t = 1000)]
    pub nodes: usize,
    /// Identities on each node.
    #[arg(long, default_value_t = 50)]
    pub identities: usize,
    /// Simulated time.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "24h")]
    pub time: Duration,
    /// Exchanges that the issuer takes each second from the whole fleet in the long run; it answers
    /// others with 429 and `Retry-After: 1`.
    #[arg(long, default_value_t = 5)]
    pub limit: u32,
    /// How many it takes at once.
    #[arg(long, default_value_t = 50)]
    pub burst: u32,
    /// When the issuer goes away.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "8h")]
    pub outage_at: Duration,
    /// For how long; 0s for no outage.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "2h")]
    pub outage: Duration,
    /// When every agent is replaced by one that takes its memory over; 0s for never.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "6h")]
    pub upgrade_at: Duration,
    /// When all nodes restart at once and every memory is lost; 0s for never.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub restart_at: Duration,
    /// How long the fleet takes to start, each node at a random moment of it.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "4h")]
    pub start_within: Duration,
    /// How long a Pod lives before another one takes its place, in the mean.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "6h")]
    pub pod_life: Duration,
    /// Makes a run repeatable.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the plot of exchanges per second goes, as SVG.
    #[arg(long)]
    pub plot: Option<PathBuf>,
}
