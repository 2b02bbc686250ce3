//! What the admin has set, the same for every Pod.

use std::collections::BTreeSet;

use super::volume::VolumeChoice;

/// How a Pod reaches its node's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// `caios-enroll` hands the agent a listener of the Pod's network namespace, and exits.
    Handoff,
    /// `caios-enroll relay` stays as a native sidecar and copies bytes: for runtimes that cannot
    /// pass descriptors.
    Relay,
    /// The token and the socket directory are mounted and nothing else: for clients that dial unix
    /// sockets.
    Direct,
}

/// The agent's `--enrolment-mode`, which `caios-enroll --mode` must equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolmentMode {
    /// The agent re-owns the listener.
    Reown,
    /// The Pod binds the port itself.
    Plain,
}

/// When the kubelet pulls the image of `caios-enroll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// Where the node has it not; the agent on the node runs from the same image.
    IfNotPresent,
    /// Never.
    Never,
}

/// What the added container asks for, as requests and as limits alike, so that a Guaranteed Pod
/// stays one and quotas and ratios are met. Kubernetes quantities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// CPU, such as `100m`.
    pub cpu: String,
    /// Memory, such as `32Mi`.
    pub memory: String,
}

/// What the admin has set, the same for every Pod.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image with `caios-enroll`.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
    /// What the added container asks for.
    pub resources: Resources,
    /// The audience of tokens where the ServiceAccount names none.
    pub audience: String,
    /// Other audiences that the agents accept. A ServiceAccount that names one which they do not
    /// is warned: its Pods would be refused at enrolment.
    pub additional_audiences: BTreeSet<String>,
    /// The audiences that the API server itself accepts: a token for one of them is a credential
    /// for the cluster too.
    pub api_audiences: BTreeSet<String>,
    /// Longest life of a token, in seconds, where no annotation says it; at least 600. What a Pod
    /// gets is drawn between eleven twelfths of it and all of it, so that a fleet's tokens do not
    /// rotate together.
    pub token_expiration: u32,
    /// `AWS_REGION` and `AWS_DEFAULT_REGION`, where a container sets neither.
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL_S3`, where a container sets neither it nor `AWS_ENDPOINT_URL`.
    pub s3_endpoint: Option<String>,
    /// How Pods reach the agent, where neither an annotation nor the runtime class says it.
    pub delivery: Delivery,
    /// Which volume leads to the agent's sockets, where no annotation says it.
    pub volume: VolumeChoice,
    /// Whether the nodes have the driver of the CSI volume.
    pub csi: bool,
    /// Where the agent listens in a Pod, where no annotation says it.
    pub port: u16,
    /// How listeners are handed over.
    pub enrolment_mode: EnrolmentMode,
    /// The directory on the node with the agent's public sockets; mounted under the same path.
    pub public_directory: String,
    /// Runtime classes that cannot pass descriptors but can connect to a unix socket of the node:
    /// their Pods get [`Delivery::Relay`].
    pub relay_runtime_classes: BTreeSet<String>,
    /// Runtime classes that can do neither: their Pods are left as they are, with a warning.
    pub unsupported_runtime_classes: BTreeSet<String>,
}
