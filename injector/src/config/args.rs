//! The flags of `caios-injector run`. Each has an environment variable of the same name behind
//! `CAIOS_INJECTOR_`; secrets are no flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shared::contract;
use shared::flags::{Flag, count, duration, parsed};
use shared::telemetry::Format;

use super::choices::{CertificatesFlag, DeliveryFlag, ModeFlag, PullFlag, VolumeFlag};

/// Every flag of `caios-injector run`, as given. [`Config`](super::Config) is what is made of it.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Image with `caios-enroll`, as the added container names it.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_IMAGE",
        value_name = "IMAGE",
        help_heading = "Injection"
    )]
    pub image: Option<String>,
    /// When the kubelet pulls that image.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent",
        value_enum,
        help_heading = "Injection"
    )]
    pub image_pull_policy: PullFlag,
    /// CPU that the added container asks for, as request and limit; a Kubernetes quantity.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_ENROLL_CPU",
        value_name = "QUANTITY",
        default_value = "100m",
        help_heading = "Injection"
    )]
    pub enroll_cpu: String,
    /// Memory that the added container asks for, as request and limit; a Kubernetes quantity.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_ENROLL_MEMORY",
        value_name = "QUANTITY",
        default_value = "32Mi",
        help_heading = "Injection"
    )]
    pub enroll_memory: String,
    /// Audience of the Pods' tokens where no annotation names one. By default the cluster's issuer,
    /// read from the injector's own token.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_AUDIENCE",
        value_name = "AUDIENCE",
        help_heading = "Injection"
    )]
    pub audience: Option<String>,
    /// Other audience that the agents accept; may be repeated. ServiceAccounts that name one which is
    /// not here are warned.
    #[arg(
        long = "additional-audience",
        env = "CAIOS_INJECTOR_ADDITIONAL_AUDIENCES",
        value_name = "AUDIENCE",
        value_delimiter = ',',
        help_heading = "Injection"
    )]
    pub additional_audiences: Vec<String>,
    /// Audience that the API server itself accepts, which Pods' tokens should not be for; may be
    /// repeated. By default those of the injector's own token.
    #[arg(
        long = "api-audience",
        env = "CAIOS_INJECTOR_API_AUDIENCES",
        value_name = "AUDIENCE",
        value_delimiter = ',',
        help_heading = "Injection"
    )]
    pub api_audiences: Vec<String>,
    /// Directory with the injector's own `token`.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_SERVICE_ACCOUNT_DIRECTORY",
        value_name = "DIRECTORY",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount",
        help_heading = "Injection"
    )]
    pub service_account_directory: PathBuf,
    /// Longest life of a Pod's token where no annotation says it; 10m to 24h.
    #[arg(long, env = "CAIOS_INJECTOR_TOKEN_EXPIRATION", value_name = "DURATION", default_value = "24h", value_parser = duration(), help_heading = "Injection")]
    pub token_expiration: Flag<Duration>,
    /// `AWS_REGION` and `AWS_DEFAULT_REGION` of containers that set neither.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_REGION",
        value_name = "REGION",
        help_heading = "Injection"
    )]
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL_S3` of containers that set no endpoint.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_S3_ENDPOINT",
        value_name = "URL",
        help_heading = "Injection"
    )]
    pub s3_endpoint: Option<String>,
    /// How Pods reach their node's agent.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_DELIVERY",
        default_value = "handoff",
        value_enum,
        help_heading = "Injection"
    )]
    pub delivery: DeliveryFlag,
    /// Volume with the agent's sockets.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_VOLUME",
        default_value = "auto",
        value_enum,
        help_heading = "Injection"
    )]
    pub volume: VolumeFlag,
    /// Whether the nodes have the driver of the CSI volume, `caios-agent csi`.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_CSI",
        value_name = "BOOL",
        default_value_t = false,
        action = clap::ArgAction::Set,
        help_heading = "Injection"
    )]
    pub csi: bool,
    /// Where the agent listens in a Pod; 1024 to 65535.
    #[arg(long, env = "CAIOS_INJECTOR_PORT", value_name = "PORT", default_value = "27169", value_parser = count(), help_heading = "Injection")]
    pub port: Flag<u64>,
    /// The agent's `--enrolment-mode`.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_ENROLMENT_MODE",
        default_value = "reown",
        value_enum,
        help_heading = "Injection"
    )]
    pub enrolment_mode: ModeFlag,
    /// Directory on the nodes with the agent's public sockets.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_PUBLIC_DIRECTORY",
        value_name = "DIRECTORY",
        default_value = contract::PUBLIC_DIRECTORY,
        help_heading = "Injection",
    )]
    pub public_directory: String,
    /// Runtime class that cannot pass descriptors and gets the `relay` delivery; may be repeated.
    #[arg(
        long = "relay-runtime-class",
        env = "CAIOS_INJECTOR_RELAY_RUNTIME_CLASSES",
        value_name = "NAME",
        default_value = "gvisor",
        value_delimiter = ',',
        help_heading = "Injection"
    )]
    pub relay_runtime_classes: Vec<String>,
    /// Runtime class that cannot reach the node's sockets at all; may be repeated.
    #[arg(
        long = "unsupported-runtime-class",
        env = "CAIOS_INJECTOR_UNSUPPORTED_RUNTIME_CLASSES",
        value_name = "NAME",
        default_value = "kata,kata-qemu,kata-clh,kata-fc,kata-dragonball",
        value_delimiter = ',',
        help_heading = "Injection"
    )]
    pub unsupported_runtime_classes: Vec<String>,

    /// Address that the API server sends reviews to.
    #[arg(long, env = "CAIOS_INJECTOR_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8443", value_parser = parsed::<SocketAddr>(), help_heading = "Serving")]
    pub listen: Flag<SocketAddr>,
    /// Address of `/metrics`, `/livez` and `/readyz`.
    #[arg(long, env = "CAIOS_INJECTOR_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9469", value_parser = parsed::<SocketAddr>(), help_heading = "Serving")]
    pub admin_listen: Flag<SocketAddr>,
    /// Time for a whole review; below the webhook's `timeoutSeconds`; 500ms to 29s.
    #[arg(long, env = "CAIOS_INJECTOR_REVIEW_TIMEOUT", value_name = "DURATION", default_value = "4s", value_parser = duration(), help_heading = "Serving")]
    pub review_timeout: Flag<Duration>,
    /// Reviews at once; more are answered with 503; 1 to 10000.
    #[arg(long, env = "CAIOS_INJECTOR_MAX_REVIEWS", value_name = "COUNT", default_value = "256", value_parser = count(), help_heading = "Serving")]
    pub max_reviews: Flag<u64>,
    /// Bytes of one review; 65536 to 33554432. The API server's own limit on an object is 3 MiB.
    #[arg(long, env = "CAIOS_INJECTOR_MAX_REVIEW_BYTES", value_name = "BYTES", default_value = "4194304", value_parser = count(), help_heading = "Serving")]
    pub max_review_bytes: Flag<u64>,
    /// Open connections; 16 to 100000.
    #[arg(long, env = "CAIOS_INJECTOR_MAX_CONNECTIONS", value_name = "COUNT", default_value = "1024", value_parser = count(), help_heading = "Serving")]
    pub max_connections: Flag<u64>,
    /// How long new connections are taken after SIGTERM, while the cluster learns that this replica
    /// ends; 0s to 1m.
    #[arg(long, env = "CAIOS_INJECTOR_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "8s", value_parser = duration(), help_heading = "Serving")]
    pub shutdown_delay: Flag<Duration>,
    /// How long reviews in flight may take to end after that; 0s to 5m.
    #[arg(long, env = "CAIOS_INJECTOR_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration(), help_heading = "Serving")]
    pub drain_timeout: Flag<Duration>,
    /// ServiceAccounts to remember; 100 to 1000000. Those beyond are asked for one by one.
    #[arg(long, env = "CAIOS_INJECTOR_MAX_SERVICE_ACCOUNTS", value_name = "COUNT", default_value = "100000", value_parser = count(), help_heading = "Serving")]
    pub max_service_accounts: Flag<u64>,

    /// Where the serving certificate comes from.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_CERTIFICATES",
        default_value = "managed",
        value_enum,
        help_heading = "Certificates"
    )]
    pub certificates: CertificatesFlag,
    /// The injector's own namespace.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_NAMESPACE",
        value_name = "NAMESPACE",
        help_heading = "Certificates"
    )]
    pub namespace: Option<String>,
    /// The Secret of the managed certificate, which must be there; it may be empty.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_CERTIFICATE_SECRET",
        value_name = "NAME",
        help_heading = "Certificates"
    )]
    pub certificate_secret: Option<String>,
    /// The `MutatingWebhookConfiguration` whose `caBundle` is kept right.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        help_heading = "Certificates"
    )]
    pub webhook_configuration: Option<String>,
    /// The Service that the API server calls: the managed certificate is for its names.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_SERVICE",
        value_name = "NAME",
        help_heading = "Certificates"
    )]
    pub service: Option<String>,
    /// Life of the managed certificate, renewed when a third of it is left; 10s to 366d.
    #[arg(long, env = "CAIOS_INJECTOR_CERTIFICATE_LIFETIME", value_name = "DURATION", default_value = "90d", value_parser = duration(), help_heading = "Certificates")]
    pub certificate_lifetime: Flag<Duration>,
    /// Life of the managed certificate authority, at least twice the certificate's; 20s to
    /// 7305d.
    #[arg(long, env = "CAIOS_INJECTOR_CA_LIFETIME", value_name = "DURATION", default_value = "5y", value_parser = duration(), help_heading = "Certificates")]
    pub ca_lifetime: Flag<Duration>,
    /// Directory with `tls.crt` and `tls.key`, read again when they change.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_CERTIFICATE_DIRECTORY",
        value_name = "DIRECTORY",
        help_heading = "Certificates"
    )]
    pub certificate_directory: Option<PathBuf>,

    /// Form of the log.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_LOG_FORMAT",
        default_value = "json",
        value_enum,
        help_heading = "Log"
    )]
    pub log_format: Format,
    /// What is logged: a level (error, warn, info, debug, trace) or a filter such as
    /// `info,injector::route=debug`.
    #[arg(
        long,
        env = "CAIOS_INJECTOR_LOG",
        value_name = "FILTER",
        default_value = "info",
        help_heading = "Log"
    )]
    pub log: String,
}
