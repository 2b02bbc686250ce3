//! `caios-agent csi`: the driver of our inline CSI volume, for Pods that may have no hostPath.
//!
//! It makes a directory with two listening sockets for each Pod, hands the sockets to the node's
//! agent, and answers nothing on them itself. No mount is made: the kubelet does not look for one,
//! so uid 0 without a capability is enough. Being root's, it can read what the kubelet keeps for other
//! Pods; so it is a process of its own that does nothing else.
//!
//! ```text
//! kubelet ─► rpc ─► decide ─► place ─► volumes ─► agent
//! ```

mod args;
mod authority;
mod decide;
mod driver;
mod line;
pub mod message;
mod place;
pub(crate) mod protocol;
mod rpc;
mod volumes;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shared::parts::Parts;
use shared::socket::Standing;
use shared::telemetry::Log;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use args::CsiArgs;
pub(crate) use line::Line;

use driver::Driver;
use rpc::Names;
use volumes::Volumes;

use crate::published::PublishedSocket;
use crate::trim;

/// Only the kubelet may ask, which is root.
const SOCKET_MODE: u32 = 0o600;
/// How long a driver that starts waits for its agent before it is found.
const FIRST_LINK: Duration = Duration::from_secs(2);
/// Between two looks whether another driver has taken this one's place.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The settings of the driver. Hold no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The driver's name, as CSIDriver objects and Pods have it.
    pub driver: String,
    /// This node.
    pub node: String,
    /// The kubelet's root directory.
    pub kubelet: PathBuf,
    /// The agent's socket for the driver.
    pub agent: PathBuf,
    /// Whether Pods wait for credentials where their volume does not say it.
    pub wait: bool,
    /// How long a driver that is to end serves on until another one has taken its place.
    pub handover_timeout: Duration,
    /// What is logged, and how.
    pub log: Log,
}

impl Settings {
    fn pods(&self) -> PathBuf {
        self.kubelet.join("pods")
    }

    fn endpoint(&self) -> PathBuf {
        self.kubelet
            .join("plugins")
            .join(&self.driver)
            .join("csi.sock")
    }

    fn registration(&self) -> PathBuf {
        let name = format!("{}-reg.sock", self.driver);
        self.kubelet.join("plugins_registry").join(name)
    }
}

/// Serves the kubelet until `shutdown`, and then until another driver has taken this one's place, and
/// the agent has all volumes, or the handover time has passed.
///
/// # Errors
/// When a socket cannot be published, or a part has ended by itself.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let endpoint = settings.endpoint();
    if let Some(directory) = endpoint.parent() {
        match DirBuilder::new().mode(0o750).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error)
                    .with_context(|| format!("failed to make `{}`", directory.display()));
            }
            _ => {}
        }
    }
    let publish = |path: &PathBuf| {
        let socket = PublishedSocket::publish(path, SOCKET_MODE);
        socket.with_context(|| format!("failed to bind `{}`", path.display()))
    };
    let (volumes, orders) = Volumes::new(settings.pods());
    let driver = Arc::new(Driver::new(&settings, Arc::clone(&volumes)));
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let mut parts = Parts::default();
    parts.spawn("the link to the agent", {
        let (agent, stop) = (settings.agent.clone(), stop.clone());
        Arc::clone(&volumes).link(agent, orders, stop)
    });
    // The kubelet opens a connection for each call, and all Pods of a node may start together.
    parts.spawn("the return of memory", trim::run(stop.clone()));
    // A driver that is to end does so when this one is found. What it had must be here by then, or with
    // the agent that it has told last.
    let _ = timeout(FIRST_LINK, volumes.linked()).await;
    let node = publish(&endpoint)?;
    let published = node.published().clone();
    // After the endpoint: the kubelet asks there as soon as it sees this one.
    let registration = publish(&settings.registration())?;
    let registered = registration.published().clone();
    for (name, socket, names) in [
        ("the CSI socket", node, Names::Host),
        ("the registration", registration, Names::Path),
    ] {
        let served = rpc::serve(socket, names, Arc::clone(&driver), stop.clone());
        parts.spawn(name, served);
    }
    tracing::info!("serving");
    let asked = async {
        shutdown.cancelled().await;
        let superseded = async {
            while published.standing() != Standing::Others || !volumes.handed_over(&settings.agent)
            {
                sleep(LOOK_INTERVAL).await;
            }
        };
        let superseded = timeout(settings.handover_timeout, superseded).await.is_ok();
        tracing::info!(superseded, "ending");
    };
    tokio::select! {
        biased;
        () = asked => {}
        error = parts.ended() => return Err(error),
    }
    // The kubelet forgets a driver whose registration is removed.
    for published in [registered, published] {
        if published.standing() == Standing::Ours {
            let _ = std::fs::remove_file(published.path());
        }
    }
    Ok(())
}
