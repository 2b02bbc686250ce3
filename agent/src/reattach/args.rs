//! The flags of `caios-agent reattach`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shared::contract;
use shared::flags::{Flag, Problems, duration};

use super::Settings;
use crate::aside::AsideArgs;

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
    /// How often the agent is asked which Pods have lost their listeners; 1s to 5m.
    #[arg(long, env = "CAIOS_AGENT_REATTACH_INTERVAL", value_name = "DURATION", default_value = "10s", value_parser = duration())]
    interval: Flag<Duration>,
    #[command(flatten)]
    aside: AsideArgs,
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
        let log = self.aside.log(&mut problems);
        problems.or(Settings {
            agent: self.aside.private_directory.join(contract::REATTACH_SOCKET),
            network_namespaces: self.network_namespaces,
            interval,
            log,
        })
    }
}
