//! The injector as a child process, registered at a control plane as the chart does it.

mod objects;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use shared::contract;

use crate::admin::Admin;
use crate::binaries;
use crate::control_plane::{ADDRESS, ControlPlane};
use crate::server::Server;
use crate::wait;

/// The Secret with the certificate, in the release's namespace.
pub const SECRET: &str = "caios-injector-certificate";
/// The Service that the API server calls.
pub const SERVICE: &str = "caios-injector";
/// The ServiceAccount that the injector runs as.
pub const SERVICE_ACCOUNT: &str = "caios-injector";
/// The image in the Pods.
pub const IMAGE: &str = "registry.invalid/caios-agent:test";

/// How long each part may take, on a machine that is busy with others.
const START: Duration = Duration::from_secs(90);

/// What the chart installs around injectors, for the Pods of one namespace.
pub struct Release<'a> {
    cluster: &'a ControlPlane,
    /// The namespace of the injectors.
    pub namespace: String,
    /// The namespace whose Pods they review.
    pub target: String,
    /// The name of the webhook configuration.
    pub webhooks: String,
    service_account: PathBuf,
    kubeconfig: PathBuf,
}

impl<'a> Release<'a> {
    /// Installs everything but the injectors, which [`injector`](Self::injector) starts. Their
    /// webhooks are for the Pods of `target` alone.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn new(cluster: &'a ControlPlane, target: &str) -> anyhow::Result<Self> {
        let namespace = cluster.namespace("caios-system", &[])?;
        cluster.service_account(&namespace, SERVICE_ACCOUNT, &[])?;
        let webhooks = namespace.clone();
        for object in objects::all(&namespace, target, &webhooks) {
            cluster.apply(&object)?.accepted()?;
        }
        let service_account = cluster.service_account_directory(&namespace, SERVICE_ACCOUNT)?;
        let kubeconfig = cluster.kubeconfig_with_token_file(&service_account.join("token"))?;
        Ok(Self {
            cluster,
            namespace,
            target: target.to_owned(),
            webhooks,
            service_account,
            kubeconfig,
        })
    }

    /// The flags of an injector with a managed certificate.
    pub fn arguments(&self) -> Vec<String> {
        let directory = self.service_account.display().to_string();
        [
            ("--image", IMAGE),
            ("--region", "us-east-04a"),
            ("--namespace", &self.namespace),
            ("--webhook-configuration", &self.webhooks),
            ("--certificates", "managed"),
            ("--certificate-secret", SECRET),
            ("--service", SERVICE),
            ("--service-account-directory", &directory),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()])
        .collect()
    }

    /// Starts an injector with further flags behind the Service, and waits until it is ready and
    /// the API server calls it.
    ///
    /// # Errors
    /// When it does not become ready, or is not called; the error shows the end of its log.
    pub fn injector(&self, further: &[&str]) -> anyhow::Result<Injector<'a>> {
        let mut arguments = self.arguments();
        arguments.extend(further.iter().map(|&argument| argument.to_owned()));
        let mut injector = self.spawn(&arguments)?;
        injector.ready()?;
        self.called()?;
        Ok(injector)
    }

    /// Starts an injector with exactly these flags and its addresses, puts it behind the Service,
    /// and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, arguments: &[String]) -> anyhow::Result<Injector<'a>> {
        let (port, admin_port) = (self.cluster.port(), self.cluster.port());
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port));
        let mut command = Command::new(binaries::injector());
        command.env_clear().env("KUBECONFIG", &self.kubeconfig);
        command.arg("run").args(arguments);
        command.arg(format!("--listen={ADDRESS}:{port}"));
        command.arg(format!("--admin-listen={admin}"));
        let network = self.cluster.network();
        let log = self
            .cluster
            .directory()
            .join(format!("injector-{port}.log"));
        let server = Server::spawn(network, &command, &log)?;
        let slice = objects::endpoint_slice(&self.namespace, port);
        let slice = self.cluster.apply(&slice)?.accepted()?;
        Ok(Injector {
            cluster: self.cluster,
            server,
            admin: Admin::new(network, admin),
            slice: format!(
                "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/{}",
                self.namespace,
                slice.string("/metadata/name")
            ),
        })
    }

    /// Waits until a Pod that must have credentials gets them: the API server has seen the
    /// webhooks, and trusts the injector.
    ///
    /// # Errors
    /// When it does not happen in time; the error has the last answer.
    pub fn called(&self) -> anyhow::Result<()> {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": self.target,
                "generateName": "probe-",
                "labels": { contract::REQUIRED_LABEL: "true" },
            },
            "spec": { "containers": [{ "name": "main", "image": "app.invalid/app" }] },
        });
        let mut last = String::new();
        wait::until("the API server calls the injector", START, || {
            let answer = self.cluster.create_dry(&pod);
            let injected = answer.as_ref().is_ok_and(|answer| injected(&answer.body));
            last = match answer {
                Ok(answer) => format!("{} {}", answer.code, answer.message()),
                Err(error) => format!("{error:#}"),
            };
            injected
        })
        .with_context(|| format!("the last answer to a Pod: {last}"))
    }
}

/// Whether a Pod has our init container.
pub fn injected(pod: &Value) -> bool {
    let containers = pod
        .pointer("/spec/initContainers")
        .and_then(Value::as_array);
    let mut names = containers
        .into_iter()
        .flatten()
        .map(|container| &container["name"]);
    names.any(|name| name == contract::ENROLL_CONTAINER)
}

/// A running injector. Killed when dropped.
pub struct Injector<'a> {
    cluster: &'a ControlPlane,
    server: Server,
    admin: Admin,
    slice: String,
}

impl Injector<'_> {
    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the error shows the end of its log.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        let admin = &self.admin;
        self.server.until("is ready", START, || admin.ready())
    }

    /// Its admin port.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Takes it out of the Service, as Kubernetes does when its Pod is to end or is not ready.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn withdraw(&self) -> anyhow::Result<()> {
        self.cluster.delete(&self.slice)?.accepted()?;
        Ok(())
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.server.terminate()
    }
}

impl Drop for Injector<'_> {
    fn drop(&mut self) {
        // A control plane that is gone has no endpoints either.
        let _ = self.withdraw();
    }
}
