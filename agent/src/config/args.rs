//! The flags of `caios-agent run`. Each has an environment variable of the same name behind
//! `CAIOS_AGENT_`; secrets are no flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use shared::contract;

use crate::enrolment::Mode;
use shared::flags::{Flag, count, duration, parsed};
use shared::telemetry::Format;

/// Where the issuer's public keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeysFrom {
    /// The cluster's API server, with the agent's own service account token.
    ApiServer,
    /// The issuer's discovery document.
    Issuer,
    /// The URL of `--jwks-url`.
    Url,
    /// The file of `--jwks-file`.
    File,
}

/// Every flag of `caios-agent run`, as given. [`Config`](super::Config) is what is made of it.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// CoreWeave organisation whose keys the Pods get.
    #[arg(
        long,
        env = "CAIOS_AGENT_ORG_ID",
        value_name = "ID",
        help_heading = "Exchange"
    )]
    pub org_id: Option<String>,
    /// CoreWeave's API; `https://`, or `http://` on loopback for tests.
    #[arg(
        long,
        env = "CAIOS_AGENT_API_URL",
        value_name = "URL",
        default_value = "https://api.coreweave.com",
        help_heading = "Exchange"
    )]
    pub api_url: String,
    /// Lifetime to ask for, 15m to 12h. Keys are renewed at half of it.
    #[arg(long, env = "CAIOS_AGENT_CREDENTIAL_DURATION", value_name = "DURATION", default_value = "6h", value_parser = duration(), help_heading = "Exchange")]
    pub credential_duration: Flag<Duration>,
    /// Free attribute of every exchange, for CoreWeave's audit trail; may be repeated.
    #[arg(
        long = "attribute",
        env = "CAIOS_AGENT_ATTRIBUTES",
        value_name = "KEY=VALUE",
        value_delimiter = ',',
        help_heading = "Exchange"
    )]
    pub attributes: Vec<String>,
    /// PEM file of certificate authorities to trust besides the system's; read again when it
    /// changes.
    #[arg(
        long,
        env = "CAIOS_AGENT_CA_FILE",
        value_name = "FILE",
        help_heading = "Exchange"
    )]
    pub ca_file: Option<PathBuf>,
    /// Time to connect to CoreWeave's API, TLS included; 100ms to 30s.
    #[arg(long, env = "CAIOS_AGENT_EXCHANGE_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "2s", value_parser = duration(), help_heading = "Exchange")]
    pub exchange_connect_timeout: Flag<Duration>,
    /// Time for one whole call to CoreWeave's API; 500ms to 60s.
    #[arg(long, env = "CAIOS_AGENT_EXCHANGE_TIMEOUT", value_name = "DURATION", default_value = "6s", value_parser = duration(), help_heading = "Exchange")]
    pub exchange_timeout: Flag<Duration>,
    /// What SDKs get as session token where CoreWeave gives none.
    #[arg(
        long,
        env = "CAIOS_AGENT_SESSION_TOKEN_PLACEHOLDER",
        value_name = "TEXT",
        default_value = "",
        help_heading = "Exchange"
    )]
    pub session_token_placeholder: String,

    /// Issuer of the Pods' tokens, exactly as in their `iss`; taken from the API server when not
    /// given.
    #[arg(
        long,
        env = "CAIOS_AGENT_ISSUER",
        value_name = "URL",
        help_heading = "Identity"
    )]
    pub issuer: Option<String>,
    /// Audience that tokens may be for; may be repeated. The issuer when not given.
    #[arg(
        long = "audience",
        env = "CAIOS_AGENT_AUDIENCES",
        value_name = "AUDIENCE",
        value_delimiter = ',',
        help_heading = "Identity"
    )]
    pub audiences: Vec<String>,
    /// Where the issuer's public keys come from. By default the file or URL that is given,
    /// otherwise the API server inside a cluster and the issuer elsewhere.
    #[arg(
        long,
        env = "CAIOS_AGENT_KEYS_FROM",
        value_enum,
        help_heading = "Identity"
    )]
    pub keys_from: Option<KeysFrom>,
    /// JWKS file with the issuer's public keys.
    #[arg(
        long,
        env = "CAIOS_AGENT_JWKS_FILE",
        value_name = "FILE",
        help_heading = "Identity"
    )]
    pub jwks_file: Option<PathBuf>,
    /// URL of the issuer's JWKS.
    #[arg(
        long,
        env = "CAIOS_AGENT_JWKS_URL",
        value_name = "URL",
        help_heading = "Identity"
    )]
    pub jwks_url: Option<String>,
    /// PEM file of the certificate authority of `--jwks-url` or of the issuer.
    #[arg(
        long,
        env = "CAIOS_AGENT_ISSUER_CA_FILE",
        value_name = "FILE",
        help_heading = "Identity"
    )]
    pub issuer_ca_file: Option<PathBuf>,
    /// API server, for `--keys-from api-server` and for `--watch-pods`.
    #[arg(
        long,
        env = "CAIOS_AGENT_API_SERVER_URL",
        value_name = "URL",
        default_value = "https://kubernetes.default.svc",
        help_heading = "Identity"
    )]
    pub api_server_url: String,
    /// Directory with the agent's own `token` and the cluster's `ca.crt`.
    #[arg(
        long,
        env = "CAIOS_AGENT_SERVICE_ACCOUNT_DIRECTORY",
        value_name = "DIRECTORY",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount",
        help_heading = "Identity"
    )]
    pub service_account_directory: PathBuf,
    /// This node. Tokens of Pods on other nodes are refused.
    #[arg(
        long,
        env = "CAIOS_AGENT_NODE_NAME",
        value_name = "NAME",
        help_heading = "Identity"
    )]
    pub node_name: Option<String>,
    /// How far the clocks of issuer and node may be apart; 0s to 5m.
    #[arg(long, env = "CAIOS_AGENT_CLOCK_SKEW", value_name = "DURATION", default_value = "60s", value_parser = duration(), help_heading = "Identity")]
    pub clock_skew: Flag<Duration>,
    /// Verified tokens to remember; 16 to 1000000.
    #[arg(long, env = "CAIOS_AGENT_MAX_REMEMBERED_TOKENS", value_name = "COUNT", default_value = "4096", value_parser = count(), help_heading = "Identity")]
    pub max_remembered_tokens: Flag<u64>,

    /// How long a request waits for a first exchange before it gets 503; 1s to 60s. Keep it 2s above
    /// `--exchange-timeout`, so that a call that hung is tried again.
    #[arg(long, env = "CAIOS_AGENT_HOLD_LIMIT", value_name = "DURATION", default_value = "8s", value_parser = duration(), help_heading = "Cache")]
    pub hold_limit: Flag<Duration>,
    /// Life that keys keep where their lifetime allows it: they are renewed before less is left;
    /// 0s to 6h.
    #[arg(long, env = "CAIOS_AGENT_MIN_REMAINING", value_name = "DURATION", default_value = "20m", value_parser = duration(), help_heading = "Cache")]
    pub min_remaining: Flag<Duration>,
    /// Identities in memory; 1 to 100000.
    #[arg(long, env = "CAIOS_AGENT_MAX_IDENTITIES", value_name = "COUNT", default_value = "1024", value_parser = count(), help_heading = "Cache")]
    pub max_identities: Flag<u64>,
    /// Pods whose token is kept for the renewals of one identity; 1 to 100000.
    #[arg(long, env = "CAIOS_AGENT_MAX_PODS_PER_IDENTITY", value_name = "COUNT", default_value = "512", value_parser = count(), help_heading = "Cache")]
    pub max_pods_per_identity: Flag<u64>,
    /// Requests that may wait for first exchanges at once; 1 to 100000.
    #[arg(long, env = "CAIOS_AGENT_MAX_HELD_REQUESTS", value_name = "COUNT", default_value = "4096", value_parser = count(), help_heading = "Cache")]
    pub max_held_requests: Flag<u64>,
    /// Exchanges in flight at once, a quarter of them for requests that wait; 1 to 1000.
    #[arg(long, env = "CAIOS_AGENT_MAX_EXCHANGES", value_name = "COUNT", default_value = "16", value_parser = count(), help_heading = "Cache")]
    pub max_exchanges: Flag<u64>,
    /// How long a refusal is remembered; 1s to 5m.
    #[arg(long, env = "CAIOS_AGENT_REFUSAL_MEMORY", value_name = "DURATION", default_value = "5s", value_parser = duration(), help_heading = "Cache")]
    pub refusal_memory: Flag<Duration>,

    /// Directory with the sockets that Pods may reach.
    #[arg(long, env = "CAIOS_AGENT_PUBLIC_DIRECTORY", value_name = "DIRECTORY", default_value = contract::PUBLIC_DIRECTORY, help_heading = "Serving")]
    pub public_directory: PathBuf,
    /// Directory with the sockets that are for the agent's containers alone.
    #[arg(long, env = "CAIOS_AGENT_PRIVATE_DIRECTORY", value_name = "DIRECTORY", default_value = contract::PRIVATE_DIRECTORY, help_heading = "Serving")]
    pub private_directory: PathBuf,
    /// Address of `/metrics`, `/livez` and `/readyz`.
    #[arg(long, env = "CAIOS_AGENT_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9469", value_parser = parsed::<SocketAddr>(), help_heading = "Serving")]
    pub admin_listen: Flag<SocketAddr>,
    /// Connections of all workloads together; 16 to 1000000.
    #[arg(long, env = "CAIOS_AGENT_MAX_CONNECTIONS", value_name = "COUNT", default_value = "8192", value_parser = count(), help_heading = "Serving")]
    pub max_connections: Flag<u64>,
    /// Connections of one listener; 1 to 100000.
    #[arg(long, env = "CAIOS_AGENT_MAX_CONNECTIONS_PER_LISTENER", value_name = "COUNT", default_value = "256", value_parser = count(), help_heading = "Serving")]
    pub max_connections_per_listener: Flag<u64>,
    /// Time for a request's head, from its first byte or the connection; 100ms to 60s.
    #[arg(long, env = "CAIOS_AGENT_HEADER_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = duration(), help_heading = "Serving")]
    pub header_timeout: Flag<Duration>,
    /// How long a kept-alive connection may idle; 1s to 1h.
    #[arg(long, env = "CAIOS_AGENT_IDLE_TIMEOUT", value_name = "DURATION", default_value = "75s", value_parser = duration(), help_heading = "Serving")]
    pub idle_timeout: Flag<Duration>,
    /// How long requests in flight may take to end after SIGTERM; 0s to 5m.
    #[arg(long, env = "CAIOS_AGENT_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration(), help_heading = "Serving")]
    pub drain_timeout: Flag<Duration>,
    /// How long an agent that has a keeper serves on after SIGTERM until another has taken its
    /// place; 0s to 5m.
    #[arg(long, env = "CAIOS_AGENT_HANDOVER_TIMEOUT", value_name = "DURATION", default_value = "20s", value_parser = duration(), help_heading = "Serving")]
    pub handover_timeout: Flag<Duration>,

    /// Socket of the keeper, which holds listeners and memory over restarts of this agent. Without
    /// one a restart loses the Pods' listeners.
    #[arg(
        long,
        env = "CAIOS_AGENT_KEEPER_SOCKET",
        value_name = "PATH",
        help_heading = "Keeper"
    )]
    pub keeper_socket: Option<PathBuf>,
    /// Uid of this Pod; the keeper of the same Pod has the same.
    #[arg(long, env = "CAIOS_AGENT_INSTANCE", value_name = "UID", default_value = contract::DEFAULT_INSTANCE, help_heading = "Keeper")]
    pub instance: String,

    /// How a handed-over listener is taken. `plain` is for kernels on which re-owning fails.
    #[arg(
        long,
        env = "CAIOS_AGENT_ENROLMENT_MODE",
        value_enum,
        default_value = "reown",
        help_heading = "Enrolment"
    )]
    pub enrolment_mode: Mode,
    /// Enrolments whose descriptors are looked at together; 1 to 64.
    #[arg(long, env = "CAIOS_AGENT_MAX_ENROLMENTS", value_name = "COUNT", default_value = "8", value_parser = count(), help_heading = "Enrolment")]
    pub max_enrolments: Flag<u64>,
    /// Pods that may be enrolled; 1 to 100000.
    #[arg(long, env = "CAIOS_AGENT_MAX_PODS", value_name = "COUNT", default_value = "1024", value_parser = count(), help_heading = "Enrolment")]
    pub max_pods: Flag<u64>,
    /// How often it is checked whether enrolled Pods are still there; 1s to 10m.
    #[arg(long, env = "CAIOS_AGENT_POLL_INTERVAL", value_name = "DURATION", default_value = "30s", value_parser = duration(), help_heading = "Enrolment")]
    pub poll_interval: Flag<Duration>,

    /// Whether to watch the Pods of this node at the API server: `true` or `false`. By default they
    /// are watched inside a cluster where `--node-name` is given.
    #[arg(long, env = "CAIOS_AGENT_WATCH_PODS", value_name = "BOOL", value_parser = parsed::<bool>(), help_heading = "Pods")]
    pub watch_pods: Option<Flag<bool>>,
    /// Whether to say on a Pod, as an Event, what is wrong with it: `true` or `false`.
    #[arg(long, env = "CAIOS_AGENT_EVENTS", value_name = "BOOL", default_value = "true", value_parser = parsed::<bool>(), help_heading = "Pods")]
    pub events: Flag<bool>,
    /// Namespace whose Pods the injector leaves alone; may be repeated.
    #[arg(
        long = "excluded-namespace",
        env = "CAIOS_AGENT_EXCLUDED_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        help_heading = "Pods"
    )]
    pub excluded_namespaces: Vec<String>,
    /// How long the API server and the node may differ about a Pod before it counts; 1s to 10m.
    #[arg(long, env = "CAIOS_AGENT_POD_GRACE", value_name = "DURATION", default_value = "60s", value_parser = duration(), help_heading = "Pods")]
    pub pod_grace: Flag<Duration>,

    /// Form of the log.
    #[arg(
        long,
        env = "CAIOS_AGENT_LOG_FORMAT",
        value_enum,
        default_value = "json",
        help_heading = "Log"
    )]
    pub log_format: Format,
    /// What is logged: a level (error, warn, info, debug, trace) or a filter such as
    /// `info,agent::cache=debug`.
    #[arg(
        long,
        env = "CAIOS_AGENT_LOG",
        value_name = "FILTER",
        default_value = "info",
        help_heading = "Log"
    )]
    pub log: String,
}
