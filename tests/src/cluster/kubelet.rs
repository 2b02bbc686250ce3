//! The kubelet.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{NODE, Place, RESOLVER, runtime};
use crate::control_plane::{ADDRESS, ControlPlane};
use crate::namespace::Namespace;
use crate::server::Server;
use crate::{http, tools};

/// How long the node may take to be ready, on a machine that is busy with others.
pub(super) const START: Duration = Duration::from_mins(3);

/// Where it says that it is well, by default.
const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_248);
/// Go's servers insist on a `Host`.
const ASK: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: kubelet\r\nConnection: close\r\n\r\n";

/// Whether it has started and is well. Its node may be called ready for longer than it lives.
pub(super) fn is_healthy(network: &Namespace) -> bool {
    let asked = async { http::send(HEALTH, ASK.to_vec()).await };
    network.run(asked).is_ok_and(|answer| answer.status == 200)
}

/// Starts it, and waits for nothing.
pub(super) fn start(cluster: &ControlPlane, place: &Place) -> anyhow::Result<Server> {
    let config = place.directory.join("kubelet.json");
    fs::write(&config, settings(cluster, place)?.to_string())?;
    let user = format!("system:node:{NODE}");
    let kubeconfig = cluster.kubeconfig_by_certificate((&user, Some("system:nodes")))?;
    let mut kubelet = Command::new(tools::program("kubernetes", "kubelet")?);
    kubelet.arg(format!("--config={}", config.display()));
    kubelet.arg(format!("--kubeconfig={}", kubeconfig.display()));
    kubelet.arg(format!("--hostname-override={NODE}"));
    kubelet.arg(format!("--node-ip={ADDRESS}"));
    // On a loaded machine nothing else is of interest.
    kubelet.arg("--v=2");
    Server::spawn(
        cluster.network(),
        &kubelet,
        &place.directory.join("kubelet.log"),
    )
}

fn settings(cluster: &ControlPlane, place: &Place) -> anyhow::Result<serde_json::Value> {
    let authority = cluster.ca_file().canonicalize()?;
    Ok(json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": authority },
        },
        "authorization": { "mode": "Webhook" },
        "containerRuntimeEndpoint": format!("unix://{}", runtime::SOCKET),
        "clusterDNS": [RESOLVER],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        // The machine's own: no systemd, version 1 of cgroups, perhaps no CAP_SYS_RESOURCE.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", place.cgroup),
        "failCgroupV1": false,
        "oomScoreAdj": 0,
        "failSwapOn": false,
        "makeIPTablesUtilChains": false,
        // Pods may have the whole machine, and are not evicted for what others take of it.
        "maxPods": 300,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": false,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1Mi",
            "imagefs.available": "1Mi",
        },
        "imageGCHighThresholdPercent": 100,
        // A container that is killed again and again is the test's doing.
        "crashLoopBackOff": { "maxContainerRestartPeriod": "1s" },
        // Start and end of many Pods together.
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "registryPullQPS": 0,
    }))
}
