//! The flags with a fixed set of values.

use clap::ValueEnum;

use crate::mutate::{Delivery, EnrolmentMode, PullPolicy, VolumeChoice};

/// `--image-pull-policy`, spelled as in a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PullFlag {
    /// Where the node has it not.
    #[value(name = "IfNotPresent")]
    IfNotPresent,
    /// At every start.
    #[value(name = "Always")]
    Always,
    /// Never.
    #[value(name = "Never")]
    Never,
}

impl From<PullFlag> for PullPolicy {
    fn from(flag: PullFlag) -> Self {
        match flag {
            PullFlag::IfNotPresent => Self::IfNotPresent,
            PullFlag::Always => Self::Always,
            PullFlag::Never => Self::Never,
        }
    }
}

/// `--delivery`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeliveryFlag {
    /// An init container hands the agent a listener of the Pod, and exits.
    Handoff,
    /// A native sidecar copies bytes.
    Relay,
    /// The sockets are mounted, for clients that dial them.
    Direct,
}

impl From<DeliveryFlag> for Delivery {
    fn from(flag: DeliveryFlag) -> Self {
        match flag {
            DeliveryFlag::Handoff => Self::Handoff,
            DeliveryFlag::Relay => Self::Relay,
            DeliveryFlag::Direct => Self::Direct,
        }
    }
}

/// `--volume`, spelled as in a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VolumeFlag {
    /// The node's directory, wherever the Pod is.
    #[value(name = "hostPath")]
    HostPath,
    /// An inline CSI volume, wherever the Pod is.
    Csi,
    /// The CSI volume where the namespace forbids hostPath volumes and a driver is there.
    Auto,
}

impl From<VolumeFlag> for VolumeChoice {
    fn from(flag: VolumeFlag) -> Self {
        match flag {
            VolumeFlag::HostPath => Self::HostPath,
            VolumeFlag::Csi => Self::Csi,
            VolumeFlag::Auto => Self::Auto,
        }
    }
}

/// `--enrolment-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeFlag {
    /// The agent re-owns the listener.
    Reown,
    /// The Pod binds the port itself.
    Plain,
}

impl From<ModeFlag> for EnrolmentMode {
    fn from(flag: ModeFlag) -> Self {
        match flag {
            ModeFlag::Reown => Self::Reown,
            ModeFlag::Plain => Self::Plain,
        }
    }
}

/// `--certificates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CertificatesFlag {
    /// Made, rotated and published by the injector itself.
    Managed,
    /// Read from `--certificate-directory`.
    Directory,
}
