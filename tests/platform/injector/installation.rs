//! The injector as the chart installs it, on a control plane: its rights, its empty Secret, its
//! Service and its webhooks, which see the namespaces of one test alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tests::control_plane::{ADDRESS, Answer, ControlPlane};
use tests::server::Server;
use tests::{binaries, http, wait};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// What both replicas are called by.
const NAME: &str = "caios-injector";

/// What is installed once.
pub(super) struct Installation<'a> {
    pub(super) cluster: &'a ControlPlane,
    /// The injector's own namespace.
    pub(super) release: String,
    /// The name of what has no namespace.
    pub(super) webhooks: String,
    /// The injector's ServiceAccount, as the kubelet mounts it.
    own: PathBuf,
}

/// One running replica.
pub(super) struct Replica<'a> {
    cluster: &'a ControlPlane,
    server: Server,
    pub(super) listen: SocketAddr,
    admin: SocketAddr,
    slice: String,
    log: PathBuf,
}

impl<'a> Installation<'a> {
    /// Installs everything but the replicas, with these rules for the injector, as in the chart.
    pub(super) fn new(cluster: &'a ControlPlane) -> Self {
        let release = cluster.namespace("injector", &[]).unwrap();
        let webhooks = format!("caios-{release}");
        cluster.service_account(&release, NAME, &[]).unwrap();
        let own = cluster.service_account_directory(&release, NAME).unwrap();
        let installed = Self {
            cluster,
            release,
            webhooks,
            own,
        };
        installed.allow();
        installed.apply(include_str!("service.yaml"));
        installed.make_secret();
        installed.apply(include_str!("webhooks.yaml"));
        installed
    }

    /// Gives the injector the rights that the chart gives it.
    pub(super) fn allow(&self) {
        self.apply(include_str!("rights.yaml"));
    }

    /// Takes all its rights.
    pub(super) fn forbid(&self) {
        let group = "/apis/rbac.authorization.k8s.io/v1";
        let bindings = [
            format!("{group}/clusterrolebindings/{}", self.webhooks),
            format!("{group}/namespaces/{}/rolebindings/{NAME}", self.release),
        ];
        for path in bindings {
            self.cluster.delete(&path).unwrap().accepted().unwrap();
        }
    }

    /// Makes the Secret, empty, as the chart does.
    pub(super) fn make_secret(&self) {
        self.apply(include_str!("secret.yaml"));
    }

    fn apply(&self, yaml: &str) {
        let yaml = yaml
            .replace("RELEASE", &self.release)
            .replace("WEBHOOKS", &self.webhooks);
        for answer in self.cluster.apply_yaml(&yaml).unwrap() {
            answer.accepted().unwrap();
        }
    }

    /// Starts a replica and waits for nothing. `flags` come behind the chart's own.
    pub(super) fn spawn(&self, flags: &[&str]) -> Replica<'a> {
        static PORT: AtomicU16 = AtomicU16::new(20_000);
        let port = PORT.fetch_add(2, Ordering::Relaxed);
        let listen = SocketAddr::from((ADDRESS, port));
        let admin = SocketAddr::from((ADDRESS, port + 1));
        let token = self.own.join("token");
        let kubeconfig = self.cluster.kubeconfig_with_token_file(&token).unwrap();
        let mut command = Command::new(binaries::injector());
        command.env_clear().env("KUBECONFIG", kubeconfig).args([
            "run",
            "--image=caios.invalid/agent:1",
            "--region=US-EAST-04A",
            &format!("--namespace={}", self.release),
            &format!("--certificate-secret={NAME}"),
            &format!("--webhook-configuration={}", self.webhooks),
            &format!("--service={NAME}"),
            &format!("--service-account-directory={}", self.own.display()),
            &format!("--listen={listen}"),
            &format!("--admin-listen={admin}"),
            "--shutdown-delay=3s",
            "--log=info,injector=debug",
        ]);
        command.args(flags);
        let log = self
            .cluster
            .directory()
            .join(format!("injector-{port}.log"));
        let _ = std::fs::remove_file(&log);
        let server = Server::spawn(self.cluster.network(), &command, &log).unwrap();
        let slice = format!("replica-{port}");
        let endpoints = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": self.release,
                "name": slice,
                "labels": { "kubernetes.io/service-name": NAME },
            },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": [ADDRESS.to_string()] }],
            "ports": [{ "name": "webhook", "port": port }],
        });
        self.cluster.apply(&endpoints).unwrap().accepted().unwrap();
        Replica {
            cluster: self.cluster,
            server,
            listen,
            admin,
            slice: format!(
                "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/{slice}",
                self.release
            ),
            log,
        }
    }

    /// A namespace that the webhooks see.
    pub(super) fn namespace(&self, prefix: &str) -> String {
        let labels = [("injector", self.release.as_str())];
        self.cluster.namespace(prefix, &labels).unwrap()
    }

    /// Waits until the API server calls the webhooks, and they answer.
    pub(super) fn until_called(&self, namespace: &str) {
        wait::until("the API server has a review answered", PATIENCE, || {
            self.create(namespace, "default", true)
                .is_ok_and(|answer| is_injected(&answer))
        })
        .unwrap();
    }

    /// Creates a Pod; with the label, it is required.
    pub(super) fn create(
        &self,
        namespace: &str,
        service_account: &str,
        required: bool,
    ) -> anyhow::Result<Answer> {
        create(self.cluster, namespace, service_account, required)
    }

    pub(super) fn secret_path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{NAME}", self.release)
    }

    /// What the Secret holds, in base64 as it comes.
    pub(super) fn secret(&self) -> Value {
        let secret = self.cluster.get(&self.secret_path()).unwrap();
        secret.body["data"].clone()
    }

    pub(super) fn configuration_path(&self) -> String {
        format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}",
            self.webhooks
        )
    }

    /// The `caBundle` of every entry, in base64.
    pub(super) fn bundles(&self) -> Vec<String> {
        let configuration = self.cluster.get(&self.configuration_path()).unwrap();
        let entries = configuration.body["webhooks"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| {
                let bundle = entry["clientConfig"]["caBundle"].as_str();
                bundle.unwrap_or_default().to_owned()
            })
            .collect()
    }

    /// Makes every entry trust an authority, in PEM, as cert-manager does.
    pub(super) fn publish(&self, authority: &str) {
        let path = self.configuration_path();
        let mut configuration = self.cluster.get(&path).unwrap().body;
        let bundle = json!(k8s_openapi::ByteString(authority.into()));
        for entry in configuration["webhooks"].as_array_mut().unwrap() {
            entry["clientConfig"]["caBundle"] = bundle.clone();
        }
        let webhooks = json!({ "webhooks": configuration["webhooks"] });
        self.cluster
            .merge(&path, &webhooks)
            .unwrap()
            .accepted()
            .unwrap();
    }

    /// Whether every entry trusts what the Secret holds.
    pub(super) fn is_published(&self) -> bool {
        let authority = self.secret()["ca.crt"].clone();
        let bundles = self.bundles();
        authority.is_string() && bundles.len() == 2 && bundles.iter().all(|it| *it == authority)
    }
}

impl Replica<'_> {
    /// Waits until it is ready.
    pub(super) fn ready(mut self) -> Self {
        let (network, admin) = (self.cluster.network(), self.admin);
        self.server
            .until("is ready", PATIENCE, || {
                let asked = network.run(async move { http::get(admin, "/readyz", None).await });
                asked.is_ok_and(|answer| answer.status == 200)
            })
            .unwrap();
        self
    }

    /// Asks the admin port: status and body.
    pub(super) fn admin(&self, path: &str) -> (u16, String) {
        let (address, path) = (self.admin, path.to_owned());
        let answer = self
            .cluster
            .run(async move { http::get(address, &path, None).await })
            .unwrap();
        (answer.status, answer.body)
    }

    /// The value of one series.
    pub(super) fn metric(&self, series: &str) -> f64 {
        let metrics = self.admin("/metrics").1;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value
            .unwrap_or_else(|| panic!("no {series} in:\n{metrics}"))
            .parse()
            .unwrap()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a roll-out does: SIGTERM first, and the Service learns of it later.
    pub(super) fn roll_out(mut self) -> ExitStatus {
        let id = i32::try_from(self.server.id()).unwrap();
        let id = nix::unistd::Pid::from_raw(id);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.cluster.delete(&self.slice).unwrap();
        self.server.ended().unwrap()
    }

    /// Kills it, while the Service goes on naming it.
    pub(super) fn kill(self) {}
}

/// Creates a Pod; with the label, it is required.
pub(super) fn create(
    cluster: &ControlPlane,
    namespace: &str,
    service_account: &str,
    required: bool,
) -> anyhow::Result<Answer> {
    let labels = if required {
        json!({ "caios.coreweave.com/inject": "true" })
    } else {
        json!({})
    };
    cluster.create(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "generateName": "app-", "labels": labels },
        "spec": {
            "serviceAccountName": service_account,
            "automountServiceAccountToken": false,
            "containers": [{ "name": "main", "image": "app.invalid/app" }],
        },
    }))
}

/// Whether the Pod was pointed at its agent.
pub(super) fn is_injected(answer: &Answer) -> bool {
    answer.code < 300 && answer.string("/spec/initContainers/0/name") == "caios-enroll"
}
