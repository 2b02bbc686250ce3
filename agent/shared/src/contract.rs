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

/// The service account token in an injected Pod. The injector mounts it, SDKs and `caios-enroll`
/// read it.
pub const TOKEN_FILE: &str = "/var/run/secrets/caios.coreweave.com/serviceaccount/token";

/// The directory on the node that Pods may reach into. The agent keeps its public sockets there.
pub const PUBLIC_DIRECTORY: &str = "/run/caios-agent/public";

/// The HTTP socket in the public directory, for workloads that can dial unix sockets.
pub const AGENT_SOCKET: &str = "agent.sock";

/// The enrolment socket in the public directory. `caios-enroll` connects, the agent listens.
pub const ENROLL_SOCKET: &str = "enroll.sock";

/// The longest service account token that is read, in bytes. Bound tokens have 1 to 2 kB; the API
/// server's own limit on a request header is far above.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
