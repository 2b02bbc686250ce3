//! A running injector.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::START;
use crate::admin::Admin;
use crate::binaries;
use crate::control_plane::{ADDRESS, ControlPlane};
use crate::server::Server;

/// A running injector. Killed when dropped.
pub struct Injector<'a> {
    cluster: &'a ControlPlane,
    server: Server,
    listen: SocketAddr,
    admin: Admin,
    slice: String,
}

impl<'a> Injector<'a> {
    /// Starts one with the flags of a Deployment but for the addresses, which are its own, and puts
    /// it behind the Service.
    pub(super) fn spawn(
        cluster: &'a ControlPlane,
        token: &Path,
        flags: &[String],
        service: &Value,
    ) -> anyhow::Result<Self> {
        let [listen, admin] = [(); 2].map(|()| SocketAddr::from((ADDRESS, cluster.port())));
        let kubeconfig = cluster.kubeconfig_with_token_file(token)?;
        let mut command = Command::new(binaries::injector());
        command.env_clear().env("KUBECONFIG", kubeconfig);
        command.arg("run");
        let addresses = ["--listen=", "--admin-listen="];
        let kept = |flag: &&String| !addresses.iter().any(|own| flag.starts_with(own));
        command.args(flags.iter().filter(kept));
        command.arg(format!("--listen={listen}"));
        command.arg(format!("--admin-listen={admin}"));
        let network = cluster.network();
        let log = cluster
            .directory()
            .join(format!("injector-{}.log", listen.port()));
        let server = Server::spawn(network, &command, &log)?;
        let slice = endpoint_slice(service, listen)?;
        let slice = cluster.apply(&slice)?.accepted()?;
        Ok(Self {
            cluster,
            server,
            listen,
            admin: Admin::new(network, admin),
            slice: format!(
                "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/{}",
                slice.string("/metadata/namespace"),
                slice.string("/metadata/name")
            ),
        })
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the error shows the end of its log.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        let admin = &self.admin;
        self.server.until("is ready", START, || admin.ready())
    }

    /// Where it is asked for reviews.
    pub fn address(&self) -> SocketAddr {
        self.listen
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

    /// Ends it as a roll-out does: SIGTERM first, and the Service learns of it later.
    ///
    /// # Errors
    /// When it does not end in time, or the API server refuses.
    pub fn roll_out(&mut self) -> anyhow::Result<ExitStatus> {
        self.server.ask_to_end()?;
        self.withdraw()?;
        self.server.ended()
    }

    /// Kills it, while the Service goes on naming it, until this is dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }
}

impl Drop for Injector<'_> {
    fn drop(&mut self) {
        // A control plane that is gone has no endpoints either.
        let _ = self.withdraw();
    }
}

/// One injector's place behind the Service.
fn endpoint_slice(service: &Value, at: SocketAddr) -> anyhow::Result<Value> {
    let text = |pointer| service.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").context("the Service has a name")?;
    Ok(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": text("/metadata/namespace"),
            "name": format!("{name}-{}", at.port()),
            "labels": { "kubernetes.io/service-name": name },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [at.ip().to_string()], "conditions": { "ready": true } }],
        "ports": [{ "name": text("/spec/ports/0/name"), "port": at.port() }],
    }))
}
