//! What the kernel tests and the virtual machine that they boot agree on.

use serde::{Deserialize, Serialize};

/// The first process: `tests/src/bin/guest`. Where the harness looks for other binaries follows
/// from its place, as under `target`.
pub const INIT: &str = "/debug/guest";
/// The agent.
pub const AGENT: &str = "/debug/caios-agent";
/// `caios-enroll`.
pub const ENROLL: &str = "/tiny/caios-enroll";
/// The keeper.
pub const KEEPER: &str = "/debug/caios-keeper";
/// The agent's own tests.
pub const AGENT_TESTS: &str = "/debug/deps/agent";
/// The serial port for [`Report`]s, one line each. The kernel and all programs write to the first.
pub const REPORTS: &str = "/dev/ttyS1";

/// Where the driver of a Pod's interface is, for the kernel that calls itself `release`.
pub fn driver(release: &str) -> String {
    format!("/lib/modules/{release}/veth.ko")
}

/// What the machine tells while it works.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It has booted, this kernel.
    Booted(String),
    /// A scenario has ended.
    Ended {
        /// Its name.
        scenario: String,
        /// How long it took, by the machine's clock.
        seconds: f64,
        /// What went wrong, if anything did.
        problem: Option<String>,
    },
    /// All scenarios have ended.
    Finished,
}
