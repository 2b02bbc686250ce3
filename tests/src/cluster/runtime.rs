//! containerd with runc, the network of the Pods, and the images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{Place, repository};
use crate::namespace::Namespace;
use crate::server::Server;
use crate::tools;

/// Where it listens.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
const START: Duration = Duration::from_mins(1);
/// What the Pods' sandboxes run.
const PAUSE: &str = "local.test/pause:1";
/// Names that the workload's image has besides its own: the tutorial's.
const WORKLOAD: (&str, &str) = (super::spec::IMAGE, "docker.io/amazon/aws-cli:latest");

/// Starts containerd, and waits until it answers.
pub(super) fn start(network: &Namespace, place: &Place) -> anyhow::Result<Server> {
    let networks = place.directory.join("cni");
    fs::create_dir_all(&networks)?;
    fs::write(networks.join("pods.conflist"), bridge())?;
    let config = place.directory.join("containerd.toml");
    fs::write(&config, settings(&networks)?)?;
    let mut containerd = Command::new(tools::program("runtime", "containerd")?);
    containerd.arg("--config").arg(&config);
    let path = std::env::var("PATH").unwrap_or_default();
    let programs = programs()?;
    containerd.env("PATH", format!("{}:{path}", programs.display()));
    containerd.env("LD_LIBRARY_PATH", programs.with_file_name("lib"));
    let mut server = Server::spawn(
        network,
        &containerd,
        &place.directory.join("containerd.log"),
    )?;
    server.until("answers", START, || control(network, &["version"]).is_ok())?;
    Ok(server)
}

/// Loads the images: ours, the sandbox's and the workload's.
pub(super) fn load(network: &Namespace) -> anyhow::Result<()> {
    let ours = repository().join("target/image");
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let ours = ours.join(format!("caios-credential-agent-{arch}.tar"));
    for archive in [ours, image("pause")?, image("workload")?] {
        let archive = archive.display().to_string();
        control(network, &["images", "import", &archive])?;
    }
    control(network, &["images", "tag", WORKLOAD.0, WORKLOAD.1])?;
    Ok(())
}

/// An archive that `tests/tools/fetch.sh workload` makes.
fn image(name: &str) -> anyhow::Result<PathBuf> {
    let archive = tools::directory()
        .join("workload")
        .join(format!("{name}.tar"));
    ensure!(
        archive.exists(),
        "no `{}`: make it with `tests/tools/fetch.sh workload`",
        archive.display()
    );
    Ok(archive)
}

/// Runs `ctr`; what it printed.
fn control(network: &Namespace, arguments: &[&str]) -> anyhow::Result<String> {
    let mut control = Command::new(tools::program("runtime", "ctr")?);
    control
        .args(["--address", SOCKET, "--namespace", "k8s.io"])
        .args(arguments);
    let shown = format!("{control:?}");
    let output = network.call(move || control.output())?;
    ensure!(
        output.status.success(),
        "{shown}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where `ctr` and `runc` are.
pub(super) fn programs() -> anyhow::Result<PathBuf> {
    let runc = tools::program("runtime", "runc")?.canonicalize()?;
    Ok(runc.parent().context("runc is in a directory")?.to_owned())
}

/// Plain addresses on a bridge, of which the node has the first.
fn bridge() -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isDefaultGateway": true,
            "hairpinMode": true,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.244.0.0/22" }]],
            },
        }],
    })
    .to_string()
}

/// Its configuration. `restrict_oom_score_adj` is for machines that withhold `CAP_SYS_RESOURCE`.
fn settings(networks: &Path) -> anyhow::Result<String> {
    let programs = programs()?;
    let runc = programs.join("runc").display().to_string();
    let plugins = programs.with_file_name("cni").display().to_string();
    let networks = networks.display();
    Ok(format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"#
    ))
}
