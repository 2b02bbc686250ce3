//! A real control plane: etcd, kube-apiserver and, where a test asks for it,
//! kube-controller-manager, in a network namespace of their own.
//!
//! Its addresses are those of a cluster: the API server is `https://kubernetes.default.svc`, and
//! webhooks by Service reach what listens on [`ADDRESS`]. Every process that talks to it runs
//! inside: [`ControlPlane::run`] for futures, [`ControlPlane::output`] for programs.

mod answer;
mod certificates;
mod client;
mod commands;
mod identities;
mod metrics;
mod objects;
pub(crate) mod place;
mod programs;
mod store;

pub use answer::Answer;
pub use commands::Helm;
pub use metrics::Histogram;

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};

use crate::link;
use crate::namespace::Namespace;
use crate::server::Server;
use certificates::Certificates;

/// Where the API server is for Pods: the first address of [`SERVICES`].
pub const API_SERVER: &str = "https://10.0.0.1";
/// The addresses of Services.
pub const SERVICES: &str = "10.0.0.0/24";
/// What a test's own servers may listen on besides loopback: `EndpointSlice`s refuse loopback.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The issuer and the API server's own audience, as most clusters have them.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The same address.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const NAMES: [&str; 7] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "10.0.0.1",
];
/// The first port for servers of tests: above those of the control plane, below the ephemeral ones.
const FIRST_PORT: u16 = 26_000;
/// How long each part may take to start, on a machine that is busy with others.
const START: Duration = Duration::from_secs(90);

/// A running control plane. Its processes end with it, and with the process of the test.
pub struct ControlPlane {
    // Dropped in this order: what depends on others first.
    servers: Mutex<Servers>,
    client: kube::Client,
    plurals: Mutex<HashMap<(String, String), objects::Resource>>,
    certificates: Certificates,
    directory: PathBuf,
    names: AtomicU32,
    nodes: AtomicU8,
    ports: AtomicU16,
    network: Arc<Namespace>,
}

struct Servers {
    controllers: Option<Server>,
    scheduler: Option<Server>,
    api_server: Option<Server>,
    etcd: Option<Server>,
}

impl ControlPlane {
    /// The control plane that the tests of one binary share. Each test has namespaces of its own
    /// there, and names of its own for what has no namespace.
    ///
    /// # Panics
    /// When it does not start: no test can go on.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<anyhow::Result<ControlPlane>> = OnceLock::new();
        match SHARED.get_or_init(Self::new) {
            Ok(started) => started,
            #[expect(clippy::panic, reason = "no test can go on without it")]
            Err(error) => panic!("no control plane: {error:#}"),
        }
    }

    /// Starts one and waits until it is ready. For tests that restart its parts.
    ///
    /// # Errors
    /// When a part is not installed, or does not start; the error shows the end of its log.
    pub fn new() -> anyhow::Result<Self> {
        Self::start(place::make("control-planes")?)
    }

    /// Starts one with its files and logs in `directory`, which is empty, and waits until it is
    /// ready.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn start(directory: PathBuf) -> anyhow::Result<Self> {
        let certificates = Certificates::generate(&directory.join("certificates"), &NAMES)?;
        let network = network(&directory)?;
        let client = client::admin(&certificates)?;
        // Made inside: what it sends later, it sends from there.
        let client = network.run(async move { kube::Client::try_from(client) })?;
        let etcd = programs::etcd(&network, &directory)?;
        let started = Self {
            servers: Mutex::new(Servers {
                controllers: None,
                scheduler: None,
                api_server: None,
                etcd: Some(etcd),
            }),
            client,
            plurals: Mutex::default(),
            certificates,
            directory,
            names: AtomicU32::new(0),
            nodes: AtomicU8::new(0),
            ports: AtomicU16::new(FIRST_PORT),
            network,
        };
        started.start_api_server()?;
        Ok(started)
    }

    /// Starts kube-controller-manager too, which makes Pods of Deployments, ends namespaces and
    /// gives them their `default` ServiceAccount.
    ///
    /// # Errors
    /// When it is not installed, or does not start; the error shows the end of its log.
    pub fn with_controllers(self) -> anyhow::Result<Self> {
        self.start_controllers(programs::WITHOUT_NODES)?;
        Ok(self)
    }

    /// Starts kube-controller-manager with the controllers of nodes too, and kube-scheduler: for a
    /// cluster in which kubelets run.
    ///
    /// # Errors
    /// As [`with_controllers`](Self::with_controllers).
    pub fn with_nodes(self) -> anyhow::Result<Self> {
        self.start_controllers(programs::WITH_NODES)?;
        self.start_scheduler()?;
        Ok(self)
    }

    fn start_scheduler(&self) -> anyhow::Result<()> {
        let kubeconfig = self.kubeconfig_by_certificate(certificates::SCHEDULER)?;
        let server = programs::scheduler(&self.network, &self.directory, &kubeconfig)?;
        self.servers().scheduler = Some(server);
        Ok(())
    }

    fn start_controllers(&self, controllers: &str) -> anyhow::Result<()> {
        let admin = self.certificates.client(certificates::CONTROLLERS)?;
        let kubeconfig = self.kubeconfig_of("controllers", &client::by_certificate(&admin)?)?;
        let mut server = programs::controllers(
            &self.network,
            &self.directory,
            &self.certificates,
            &kubeconfig,
            controllers,
        )?;
        // The first thing that it does for a namespace.
        server.until("makes the default ServiceAccount", START, || {
            self.get("/api/v1/namespaces/default/serviceaccounts/default")
                .is_ok_and(|answer| answer.accepted().is_ok())
        })?;
        self.servers().controllers = Some(server);
        Ok(())
    }

    /// Signs service account tokens with a new key from now on, and goes on to publish the old one:
    /// what a careful operator does. The API server starts anew.
    ///
    /// # Errors
    /// When it does not start; the error shows the end of its log.
    pub fn rotate_token_key(&self) -> anyhow::Result<()> {
        self.certificates.rotate_token_key()?;
        self.stop_api_server();
        self.start_api_server()
    }

    /// Kills the API server: connections to it are refused, watches end.
    pub fn stop_api_server(&self) {
        self.servers().api_server = None;
    }

    /// Starts the API server, again with what etcd has kept, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start; the error shows the end of its log.
    pub fn start_api_server(&self) -> anyhow::Result<()> {
        let mut server = programs::api_server(&self.network, &self.directory, &self.certificates)?;
        server.until("is ready", START, || self.is_ready())?;
        self.servers().api_server = Some(server);
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|answer| answer.code == 200)
    }

    /// A client with every right. Its futures run inside: see [`run`](Self::run).
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The network namespace that everything runs in.
    pub fn network(&self) -> &Arc<Namespace> {
        &self.network
    }

    /// Runs a future inside and waits for its result.
    ///
    /// # Panics
    /// When the future panics.
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        self.network.run(future)
    }

    /// Connects the network of a node, which reaches the API server by its usual name when it has
    /// [`hosts`](Self::hosts). Its address there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn connect(&self, node: &Namespace) -> anyhow::Result<Ipv4Addr> {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        let [gateway, address] = [1, 2].map(|last| Ipv4Addr::new(172, 31, number, last));
        let name = format!("node{number}");
        link::connect(&self.network, node, &name, gateway, address)?;
        Ok(address)
    }

    /// An `/etc/hosts` with the API server's names.
    pub fn hosts(&self) -> PathBuf {
        self.directory.join("hosts")
    }

    /// A directory of its own, which outlasts the tests until the next run: for logs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file with the certificate of its authority.
    pub fn ca_file(&self) -> PathBuf {
        self.certificates.file("ca.crt")
    }

    /// The certificate of its authority, PEM.
    pub fn ca_pem(&self) -> String {
        self.certificates.ca_pem()
    }

    /// What the API server has written so far.
    pub fn api_server_log(&self) -> String {
        fs::read_to_string(self.directory.join("kube-apiserver.log")).unwrap_or_default()
    }

    /// A name that no other caller gets, beginning with `prefix`.
    pub fn unique(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// A port that no other caller gets.
    pub fn port(&self) -> u16 {
        self.ports.fetch_add(1, Ordering::Relaxed)
    }

    fn servers(&self) -> std::sync::MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the network with the cluster's addresses on its loopback interface, and a directory in
/// memory for etcd, which goes with the last process of the network.
fn network(directory: &Path) -> anyhow::Result<Arc<Namespace>> {
    let hosts = directory.join("hosts");
    fs::write(
        &hosts,
        format!("127.0.0.1 localhost\n{SERVICE} kubernetes kubernetes.default.svc\n"),
    )?;
    let network = Namespace::new("control-plane", Some(&hosts))?;
    for address in [SERVICE, ADDRESS] {
        network.run(link::add_address("lo", address))?;
    }
    let etcd = directory.join("etcd");
    fs::create_dir(&etcd)?;
    network
        .call(move || {
            let memory = Some("tmpfs");
            mount(memory, &etcd, memory, MsFlags::empty(), Some("mode=700"))
        })
        .context("failed to mount a directory in memory for etcd")?;
    Ok(Arc::new(network))
}
