//! How much is measured.

use std::time::Duration;

use serde::Serialize;

/// How much is measured: everything, or as much as shows that it works.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Plan {
    /// Times that each case runs against each contender, in turns.
    pub rounds: usize,
    /// How long it runs each time.
    pub turn: Duration,
    /// Pods on the node.
    pub pods: usize,
    /// `ServiceAccounts` that they share.
    pub identities: usize,
    /// Processes of each Pod that start at once in a storm.
    pub processes: usize,
    /// Connections that are open at once in a storm of connections.
    pub connections: usize,
    /// How long an idle agent is watched, and how long memory may take to come back.
    pub rest: Duration,
    /// Requests a second in the cases of latency.
    pub rates: [u32; 2],
}

impl Plan {
    /// What the committed results come from: some minutes.
    pub const FULL: Self = Self {
        rounds: 5,
        turn: Duration::from_secs(3),
        pods: 250,
        identities: 50,
        processes: 8,
        connections: 10_000,
        rest: Duration::from_mins(1),
        rates: [1_000, 10_000],
    };
    /// Within a minute: whether it works, with figures that say little.
    pub const QUICK: Self = Self {
        rounds: 1,
        turn: Duration::from_millis(500),
        pods: 20,
        identities: 4,
        processes: 2,
        connections: 400,
        rest: Duration::from_secs(2),
        rates: [500, 1_000],
    };
}
