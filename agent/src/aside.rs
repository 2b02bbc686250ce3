//! The flags of what runs beside the agent, in its Pod.

use std::path::PathBuf;

use clap::Args;
use shared::contract;
use shared::flags::Problems;
use shared::telemetry::{Format, Log};

/// Flags that every such command has.
#[derive(Args, Clone, Debug)]
pub(crate) struct AsideArgs {
    /// Directory with the sockets that are for the agent's containers alone.
    #[arg(long, env = "CAIOS_AGENT_PRIVATE_DIRECTORY", value_name = "DIRECTORY", default_value = contract::PRIVATE_DIRECTORY)]
    pub(crate) private_directory: PathBuf,
    /// What is logged: a level, or a filter such as `info,agent=debug`.
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

impl AsideArgs {
    /// What is logged, and how; what is wrong with that goes to `problems`.
    pub(crate) fn log(&self, problems: &mut Problems) -> Log {
        problems.log(&self.log, self.log_format)
    }
}
