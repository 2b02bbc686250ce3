//! The programs, and their flags. Ports are fixed: the network is their own.

use std::path::Path;
use std::process::Command;

use super::certificates::Certificates;
use super::{ADDRESS, ISSUER, SERVICES, START};
use crate::namespace::Namespace;
use crate::server::Server;
use crate::{http, tools};

const ETCD: &str = "127.0.0.1:2379";
/// Nothing here is a cloud or has kubelets: Nodes would be tainted and their Pods deleted.
pub(super) const WITHOUT_NODES: &str = "*,-node-ipam-controller,-node-route-controller,\
     -node-lifecycle-controller,-service-lb-controller,-cloud-node-lifecycle-controller,\
     -taint-eviction-controller";
/// Nothing here is a cloud; the network plugin of the one node has addresses of its own.
pub(super) const WITH_NODES: &str = "*,-node-ipam-controller,-node-route-controller,\
     -service-lb-controller,-cloud-node-lifecycle-controller";
/// Go's servers insist on a `Host`.
const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n";
const ETCD_PEERS: &str = "http://127.0.0.1:2380";

/// Starts etcd, and waits until it is healthy.
pub(super) fn etcd(network: &Namespace, directory: &Path) -> anyhow::Result<Server> {
    let mut command = Command::new(tools::program("etcd", "etcd")?);
    command.args(["--unsafe-no-fsync", "--log-level=warn"]);
    flag(&mut command, "data-dir", directory.join("etcd").display());
    for name in ["listen-client-urls", "advertise-client-urls"] {
        flag(&mut command, name, format!("http://{ETCD}"));
    }
    for name in ["listen-peer-urls", "initial-advertise-peer-urls"] {
        flag(&mut command, name, ETCD_PEERS);
    }
    let members = format!("default={ETCD_PEERS}");
    flag(&mut command, "initial-cluster", members);
    let mut server = Server::spawn(network, &command, &directory.join("etcd.log"))?;
    server.until("is healthy", START, || {
        let asked = async { http::send(ETCD.parse()?, HEALTH.to_vec()).await };
        network.run(asked).is_ok_and(|answer| answer.status == 200)
    })?;
    Ok(server)
}

/// Asks etcd, which takes JSON besides gRPC.
pub(super) async fn ask_etcd(path: &str, body: String) -> anyhow::Result<http::Answer> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    http::send(ETCD.parse()?, request.into_bytes()).await
}

/// Starts kube-apiserver, and waits for nothing.
///
/// Its admission is what every cluster has by default, with `NodeRestriction`.
pub(super) fn api_server(
    network: &Namespace,
    directory: &Path,
    files: &Certificates,
) -> anyhow::Result<Server> {
    let mut command = Command::new(tools::program("kubernetes", "kube-apiserver")?);
    flag(&mut command, "etcd-servers", format!("http://{ETCD}"));
    flag(&mut command, "bind-address", "0.0.0.0");
    flag(&mut command, "secure-port", 443);
    flag(&mut command, "advertise-address", ADDRESS);
    flag(&mut command, "service-cluster-ip-range", SERVICES);
    flag(&mut command, "cert-dir", directory.join("run").display());
    for (name, file) in [
        ("tls-cert-file", "server.crt"),
        ("tls-private-key-file", "server.key"),
        ("client-ca-file", "ca.crt"),
        ("service-account-key-file", "tokens.pub"),
        ("service-account-signing-key-file", "tokens.key"),
        ("kubelet-client-certificate", "kube-apiserver.crt"),
        ("kubelet-client-key", "kube-apiserver.key"),
    ] {
        flag(&mut command, name, files.file(file).display());
    }
    flag(&mut command, "service-account-issuer", ISSUER);
    flag(&mut command, "authorization-mode", "Node,RBAC");
    let plugins = "NodeRestriction";
    flag(&mut command, "enable-admission-plugins", plugins);
    flag(&mut command, "allow-privileged", true);
    // Without kube-proxy, webhooks by Service go straight to its endpoints.
    flag(&mut command, "enable-aggregator-routing", true);
    // Nobody here resolves the names of nodes.
    flag(
        &mut command,
        "kubelet-preferred-address-types",
        "InternalIP",
    );
    flag(&mut command, "profiling", false);
    Server::spawn(network, &command, &directory.join("kube-apiserver.log"))
}

/// Starts kube-controller-manager, and waits for nothing.
pub(super) fn controllers(
    network: &Namespace,
    directory: &Path,
    files: &Certificates,
    kubeconfig: &Path,
    controllers: &str,
) -> anyhow::Result<Server> {
    let program = tools::program("kubernetes", "kube-controller-manager")?;
    let mut command = Command::new(program);
    flag(&mut command, "kubeconfig", kubeconfig.display());
    flag(&mut command, "bind-address", "127.0.0.1");
    flag(&mut command, "leader-elect", false);
    flag(&mut command, "use-service-account-credentials", true);
    for (name, file) in [
        ("root-ca-file", "ca.crt"),
        ("service-account-private-key-file", "tokens.key"),
        ("cluster-signing-cert-file", "ca.crt"),
        ("cluster-signing-key-file", "ca.key"),
    ] {
        flag(&mut command, name, files.file(file).display());
    }
    flag(&mut command, "controllers", controllers);
    let log = directory.join("kube-controller-manager.log");
    Server::spawn(network, &command, &log)
}

/// Starts kube-scheduler, and waits for nothing.
pub(super) fn scheduler(
    network: &Namespace,
    directory: &Path,
    kubeconfig: &Path,
) -> anyhow::Result<Server> {
    let mut command = Command::new(tools::program("kubernetes", "kube-scheduler")?);
    flag(&mut command, "kubeconfig", kubeconfig.display());
    flag(&mut command, "bind-address", "127.0.0.1");
    flag(&mut command, "leader-elect", false);
    Server::spawn(network, &command, &directory.join("kube-scheduler.log"))
}

fn flag(command: &mut Command, name: &str, value: impl std::fmt::Display) {
    command.arg(format!("--{name}={value}"));
}
