//! The flags of `caios-agent csi`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shared::contract;
use shared::flags::{Flag, Problems, duration};

use super::Settings;
use crate::aside::AsideArgs;

/// Every flag of `caios-agent csi`, as given.
#[derive(Args, Clone, Debug)]
pub struct CsiArgs {
    /// Name of the driver, as the CSIDriver object has it.
    #[arg(long, env = "CAIOS_AGENT_CSI_DRIVER", value_name = "NAME", default_value = contract::CSI_DRIVER)]
    driver: String,
    /// Root directory of the kubelet, as its `--root-dir` says.
    #[arg(
        long,
        env = "CAIOS_AGENT_KUBELET_DIRECTORY",
        value_name = "DIRECTORY",
        default_value = "/var/lib/kubelet"
    )]
    kubelet_directory: PathBuf,
    /// This node.
    #[arg(long, env = "CAIOS_AGENT_NODE_NAME", value_name = "NAME")]
    node_name: String,
    /// Whether Pods wait for credentials before their first container, where their volume does not
    /// say it.
    #[arg(
        long,
        env = "CAIOS_AGENT_WAIT_FOR_CREDENTIALS",
        value_name = "BOOL",
        default_value_t = false,
        action = clap::ArgAction::Set
    )]
    wait_for_credentials: bool,
    /// How long a driver that is to end serves on until another one has taken its place; 0s to 5m.
    #[arg(long, env = "CAIOS_AGENT_HANDOVER_TIMEOUT", value_name = "DURATION", default_value = "20s", value_parser = duration())]
    handover_timeout: Flag<Duration>,
    #[command(flatten)]
    aside: AsideArgs,
}

impl CsiArgs {
    /// Makes settings of flags.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn settings(self) -> Result<Settings, Problems> {
        let mut problems = Problems::default();
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        let named = !self.driver.is_empty() && self.driver.len() <= 63;
        if !named || !self.driver.bytes().all(known) || self.driver.starts_with('.') {
            problems.add(format!(
                "`--driver` is `{}`: must be a name of at most 63 letters, digits, `-` and `.`",
                self.driver
            ));
        }
        let kubelet = self.kubelet_directory;
        if !kubelet.is_absolute() || kubelet.to_str().is_none_or(|path| path.ends_with('/')) {
            problems.add(format!(
                "`--kubelet-directory` is `{}`: must be an absolute path without a slash at its end",
                kubelet.display()
            ));
        }
        let handover_timeout = problems.duration(
            "--handover-timeout",
            &self.handover_timeout,
            Duration::ZERO..=Duration::from_mins(5),
        );
        let log = self.aside.log(&mut problems);
        problems.or(Settings {
            driver: self.driver,
            node: self.node_name,
            kubelet,
            agent: self.aside.private_directory.join(contract::CSI_SOCKET),
            wait: self.wait_for_credentials,
            handover_timeout,
            log,
        })
    }
}
