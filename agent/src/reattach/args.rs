//! The flags of `caios-agent reattach`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shared::contract;
use shared::flags::{Flag, Problems, duration};
use shared::telemetry::Format;

use super::Settings;

/// Every flag of `caios-agent reattach`, as given.
#[derive(Args, Clone, Debug)]
pub struct ReattachArgs {
    /// Directory with the node's network namespaces, one file for each.
    #[arg(
        long,
        env = "CAIOS_AGENT_NETWORK_NAMESPACES",
        value_name = "DIRECTORY",
        default_value = "/run/netns"
    )]
    network_namespaces: PathBuf,
    /// Directory with the sockets that are for the agent's containers alone.
    #[arg(long, env = "CAIOS_AGENT_PRIVATE_DIRECTORY", value_name = "DIRECTORY", default_value = contract::PRIVATE_DIRECTORY)]
    private_directory: PathBuf,
    /// How often the agent is asked which Pods have lost their listeners; 1s to 5m.
    #[arg(long, env = "CAIOS_AGENT_REATTACH_INTERVAL", value_name = "DURATION", default_value = "10s", value_parser = duration())]
    interval: Flag<Duration>,
    /// What is logged: a level, or a filter such as `info,agent::reattach=debug`.
    #[arg(
        long,
        env = "CAIOS_AGENT_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    log: String,
    /// Form of the log.
    #[arg(
        long,
        env = "CAIOS_AGENT_LOG_FORMAT",
        value_enum,
        default_value = "json"
    )]
    log_format: Format,
}

impl ReattachArgs {
    /// Makes settings of flags.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn settings(self) -> Result<Settings, Problems> {
        let mut problems = Problems::default();
        let interval = problems.duration(
            "--interval",
            &self.interval,
            Duration::from_secs(1)..=Duration::from_mins(5),
        );
        let log = problems.log(&self.log, self.log_format);
        problems.or(Settings {
            agent: self.private_directory.join(contract::REATTACH_SOCKET),
            network_namespaces: self.network_namespaces,
            interval,
            log,
        })
    }
}
