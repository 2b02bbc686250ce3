//! The names that cross a boundary: between the binaries, and to Pods, SDKs and admins.
//!
//! Each says who writes it and who reads it. The chart passes all of them as flags; the values
//! here are the defaults.

/// The path of the one resource that SDKs ask for. The injector writes it into the URL, the agent
/// serves it.
pub const CREDENTIALS_PATH: &str = "/v1/credentials";

/// Where the agent listens inside a Pod: above 1023, so that nothing needs a capability, below the
/// ephemeral range, and in no common use.
pub const DEFAULT_PORT: u16 = 27169;

/// What the annotations and the label begin with. `inject`, `audience`, `token-expiration`,
/// `skip-containers`, `delivery`, `port`, `volume` and `wait-for-credentials` come behind it, and in
/// the attributes of a CSI volume `audience` and `wait-for-credentials`.
pub const ANNOTATION_PREFIX: &str = "caios.coreweave.com/";

/// The label of a Pod that must not start without credentials, with the value `true`. The
/// injector's strict webhook selects by it.
pub const REQUIRED_LABEL: &str = "caios.coreweave.com/inject";

/// The variable that leads SDKs to the agent: the URL of [`CREDENTIALS_PATH`] in this Pod. The
/// injector sets it, SDKs read it.
pub const CREDENTIALS_URI_VARIABLE: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

/// The variable with the path of the token that SDKs send. The injector sets it to [`TOKEN_FILE`].
pub const TOKEN_FILE_VARIABLE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// The user that our containers run as, in the image and where a Pod does not say another.
pub const IMAGE_USER: i64 = 65532;

/// The projected volume with the service account token. The injector adds it.
pub const TOKEN_VOLUME: &str = "caios-token";

/// The volume with the agent's sockets: its public directory, or a CSI volume. The injector adds it, for
/// `caios-enroll` alone.
pub const AGENT_VOLUME: &str = "caios-agent";

/// The init container that connects a Pod to its agent.
pub const ENROLL_CONTAINER: &str = "caios-enroll";

/// The native sidecar that takes its place where a runtime cannot pass descriptors.
pub const RELAY_CONTAINER: &str = "caios-relay";

/// Where the token volume is mounted; [`TOKEN_FILE`] is inside.
pub const TOKEN_DIRECTORY: &str = "/var/run/secrets/caios.coreweave.com/serviceaccount";

/// The service account token in an injected Pod. The injector mounts it, SDKs and `caios-enroll`
/// read it.
pub const TOKEN_FILE: &str = "/var/run/secrets/caios.coreweave.com/serviceaccount/token";

/// The directory on the node with all that the agent keeps there. The kubelet or `caios-agent
/// prepare` makes it, and only root may change what is in it.
pub const NODE_DIRECTORY: &str = "/run/caios-agent";

/// The directory in [`NODE_DIRECTORY`] that Pods may reach into. `caios-agent prepare` makes it.
pub const PUBLIC_NAME: &str = "public";

/// The directory in [`NODE_DIRECTORY`] for the agent's containers alone. `caios-agent prepare` makes
/// it.
pub const PRIVATE_NAME: &str = "private";

/// The directory on the node that Pods may reach into. The agent keeps its public sockets there.
pub const PUBLIC_DIRECTORY: &str = "/run/caios-agent/public";

/// The directory on the node for the agent's containers alone.
pub const PRIVATE_DIRECTORY: &str = "/run/caios-agent/private";

/// The user and the group that the images run as. `caios-agent prepare` gives the directories to the
/// group.
pub const AGENT_ID: u32 = 65532;

/// The HTTP socket in the public directory, for workloads that can dial unix sockets.
pub const AGENT_SOCKET: &str = "agent.sock";

/// The enrolment socket in the public directory. `caios-enroll` connects, the agent listens.
pub const ENROLL_SOCKET: &str = "enroll.sock";

/// The socket in the private directory where listeners and memory outlive an agent. `caios-keeper`
/// listens; its agent and the next keeper connect.
pub const KEEPER_SOCKET: &str = "keeper.sock";

/// [`KEEPER_SOCKET`] in its default place.
pub const KEEPER_SOCKET_PATH: &str = "/run/caios-agent/private/keeper.sock";

/// What agent and keeper call the Pod that they are in where nobody has told them its uid.
pub const DEFAULT_INSTANCE: &str = "local";

/// The HTTP socket in the private directory that tells people how the agent is. The agent listens,
/// `caios-agent status` connects.
pub const ADMIN_SOCKET: &str = "admin.sock";

/// The driver of the inline CSI volume, as the CSIDriver object and Pods name it.
pub const CSI_DRIVER: &str = "csi.caios.coreweave.com";

/// The socket in the private directory where the CSI driver hands over the sockets of its volumes.
/// The agent listens, `caios-agent csi` connects.
pub const CSI_SOCKET: &str = "csi.sock";

/// The socket in the private directory where Pods that have lost their listeners get new ones. The
/// agent listens, `caios-agent reattach` connects.
pub const REATTACH_SOCKET: &str = "reattach.sock";

/// The longest service account token that is read, in bytes. Bound tokens have 1 to 2 kB; the API
/// server's own limit on a request header is far above.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_paths_are_in_the_directory_of_the_node() {
        assert_eq!(PUBLIC_DIRECTORY, format!("{NODE_DIRECTORY}/{PUBLIC_NAME}"));
        assert_eq!(
            PRIVATE_DIRECTORY,
            format!("{NODE_DIRECTORY}/{PRIVATE_NAME}")
        );
        let keeper = format!("{PRIVATE_DIRECTORY}/{KEEPER_SOCKET}");
        assert_eq!(KEEPER_SOCKET_PATH, keeper);
    }
}
