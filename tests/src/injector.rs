//! The injector as the chart installs it, on a real control plane: with the rights, the webhooks
//! and the flags that Helm renders. No kubelet runs there, so injectors are child processes.

mod flags;
mod pod;
mod published;
mod rendered;
mod running;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::control_plane::{Answer, ControlPlane};
use crate::wait;

pub use pod::{injected, pod};
pub use running::Injector;

/// The image in the Pods.
pub const IMAGE: &str = "registry.invalid/caios-agent:test";

/// How long a process may take to start, and the API server to see a webhook, on a machine that is
/// busy with others.
const START: Duration = Duration::from_secs(90);

/// What the chart installs around injectors, for the Pods of one namespace.
pub struct Release<'a> {
    cluster: &'a ControlPlane,
    /// The namespace of the injectors.
    pub namespace: String,
    /// The namespace whose Pods they review.
    pub target: String,
    /// The name of what has no namespace: the webhook configuration, the rights.
    pub webhooks: String,
    /// The token of the injectors' ServiceAccount.
    token: PathBuf,
    objects: Vec<Value>,
    service: Value,
    flags: Vec<String>,
}

impl<'a> Release<'a> {
    /// Installs everything but the injectors, which [`injector`](Self::injector) starts. Their
    /// webhooks are for the Pods of `target` alone.
    ///
    /// # Errors
    /// When Helm fails or the API server refuses.
    pub fn new(cluster: &'a ControlPlane, target: &str) -> anyhow::Result<Self> {
        let namespace = cluster.namespace("caios-system", &[])?;
        let webhooks = namespace.clone();
        let rendered = rendered::objects(&namespace, &webhooks, target)?;
        let (deployments, objects): (Vec<_>, Vec<_>) = rendered
            .into_iter()
            .partition(|object| object["kind"] == "Deployment");
        let deployment = deployments.first().context("the chart has a Deployment")?;
        for object in &objects {
            cluster.apply(object)?.accepted()?;
        }
        let service = objects.iter().find(|object| object["kind"] == "Service");
        let account = flags::service_account(deployment)?;
        let own = cluster.service_account_directory(&namespace, account)?;
        Ok(Self {
            cluster,
            flags: flags::of(deployment, &own)?,
            token: own.join("token"),
            namespace,
            target: target.to_owned(),
            webhooks,
            service: service.context("the chart has a Service")?.clone(),
            objects,
        })
    }

    /// Starts the injector of a release that Helm has installed in `namespace`, with the flags of
    /// its Deployment, and waits until it is ready.
    ///
    /// # Errors
    /// When there is no such release, or it does not become ready.
    pub fn installed(cluster: &'a ControlPlane, namespace: &str) -> anyhow::Result<Injector<'a>> {
        let object = |collection: &str| {
            let label = "app.kubernetes.io/component=injector";
            let path = format!("{collection}?labelSelector={label}");
            let list = cluster.get(&path)?.accepted()?.body;
            let found = list.pointer("/items/0").cloned();
            found.with_context(|| format!("no object of the injector in {collection}"))
        };
        let deployment = object(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"))?;
        let service = object(&format!("/api/v1/namespaces/{namespace}/services"))?;
        let account = flags::service_account(&deployment)?;
        let own = cluster.service_account_directory(namespace, account)?;
        let flags = flags::of(&deployment, &own)?;
        let mut injector = Injector::spawn(cluster, &own.join("token"), &flags, &service)?;
        injector.ready()?;
        Ok(injector)
    }

    /// The control plane.
    pub fn cluster(&self) -> &'a ControlPlane {
        self.cluster
    }

    /// The flags of the chart's Deployment, each with its value behind it.
    pub fn arguments(&self) -> Vec<String> {
        flags::pairs(&self.flags)
    }

    /// Starts an injector with `further` in place of the chart's flags of the same names, and waits
    /// until it is ready and the API server calls it.
    ///
    /// # Errors
    /// When it does not become ready, or is not called; the error shows the end of its log.
    pub fn injector(&self, further: &[&str]) -> anyhow::Result<Injector<'a>> {
        let mut injector = self.start(further)?;
        injector.ready()?;
        self.called()?;
        Ok(injector)
    }

    /// Starts an injector with `further` in place of the chart's flags of the same names, behind
    /// the Service, and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, further: &[&str]) -> anyhow::Result<Injector<'a>> {
        let mut arguments: Vec<String> = further.iter().map(|&word| word.to_owned()).collect();
        arguments.extend(self.arguments());
        self.spawn(&arguments)
    }

    /// As [`start`](Self::start), with all flags: one of [`arguments`](Self::arguments) gives way
    /// to another value of the same name.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, arguments: &[String]) -> anyhow::Result<Injector<'a>> {
        let flags = flags::merged(arguments, &self.flags);
        Injector::spawn(self.cluster, &self.token, &flags, &self.service)
    }

    /// Waits until a Pod that must have credentials gets them: the API server has seen the
    /// webhooks, and trusts the injector.
    ///
    /// # Errors
    /// When it does not happen in time; the error has the last answer.
    pub fn called(&self) -> anyhow::Result<()> {
        let pod = pod(&self.target, "default", true);
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

    /// Creates a Pod in the reviewed namespace; a required one has the label.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn create(&self, service_account: &str, required: bool) -> anyhow::Result<Answer> {
        let pod = pod(&self.target, service_account, required);
        self.cluster.create(&pod)
    }
}
