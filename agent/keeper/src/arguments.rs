//! The command line.

use std::path::PathBuf;

use clap::Parser;
use shared::contract;

use crate::keeper::Settings;
use crate::protocol::MAX_INSTANCE_BYTES;

/// Holds the listeners of the node's Pods while their agent is away.
///
/// Ends at SIGTERM, when the agent of its Pod has ended and either the keeper of the Pod that takes
/// its place has everything, or nobody will. Exit codes: 0 then, 1 when it cannot start, 64 for a flag
/// that makes no sense.
#[derive(Clone, Debug, Parser)]
#[command(name = "caios-keeper", version)]
pub struct Arguments {
    /// Socket that the agent, and the next Pod's keeper, connect to.
    #[arg(long, env = "CAIOS_KEEPER_SOCKET", value_name = "PATH", default_value = contract::KEEPER_SOCKET_PATH)]
    pub socket: PathBuf,
    /// Uid of this Pod; the agent of the same Pod has the same.
    #[arg(long, env = "CAIOS_KEEPER_INSTANCE", value_name = "UID", default_value = contract::DEFAULT_INSTANCE, value_parser = instance)]
    pub instance: String,
    /// Listeners that may be held.
    #[arg(
        long,
        env = "CAIOS_KEEPER_MAX_LISTENERS",
        value_name = "COUNT",
        default_value_t = 4096
    )]
    pub max_listeners: usize,
}

impl From<Arguments> for Settings {
    fn from(arguments: Arguments) -> Self {
        let Arguments {
            socket,
            instance,
            max_listeners,
        } = arguments;
        Self {
            socket,
            instance,
            max_listeners,
        }
    }
}

fn instance(given: &str) -> Result<String, String> {
    if given.is_empty() || given.len() > MAX_INSTANCE_BYTES {
        return Err(format!("must have 1 to {MAX_INSTANCE_BYTES} bytes"));
    }
    Ok(given.to_owned())
}
