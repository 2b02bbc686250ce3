//! The sockets of CSI volumes, from the driver: `private/csi.sock`.
//!
//! [`csi`](crate::csi) makes a directory with sockets for one Pod and hands them over with the Pod's
//! token. Here they are served: the Pod's own `enroll.sock` and `agent.sock`, on which only that Pod's
//! tokens count, because the mount itself says whose they are. The first exchange begins before the
//! Pod's first container. Copies of all sockets go to every driver that is connected, and come back
//! from it, so that either may be restarted.

mod driver;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};
use shared::throttled;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::csi::Line;
use crate::csi::protocol::{About, Verdict};
use crate::door::Door;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::workload::{PodUid, Workload};
use driver::{Order, hold};

/// Only the agent's group gets this far, and the driver, which is in it.
const SOCKET_MODE: u32 = 0o660;
/// A token may need the issuer's keys fetched first.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// More volumes than any kubelet has Pods.
const MAX_VOLUMES: usize = 4096;

/// What volumes need from the rest of the agent.
pub trait Host: Send + Sync + 'static {
    /// Verifies a service account token as it came.
    fn verify(&self, token: &[u8]) -> impl Future<Output = Result<Arc<Workload>, Error>> + Send;

    /// Returns when credentials of `workload` are in memory, or the hold limit has passed.
    fn first_exchange(
        &self,
        workload: &Arc<Workload>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Starts to serve `pod` on its `enroll.sock` and its `agent.sock` until `stop` is cancelled.
    ///
    /// # Errors
    /// When the runtime cannot watch a socket.
    fn serve(
        &self,
        pod: &PodUid,
        enroll: Arc<OwnedFd>,
        agent: StdListener,
        stop: CancellationToken,
    ) -> io::Result<()>;

    /// The Pod has ended: the kubelet has taken its last volume of ours away.
    fn ended(&self, pod: &PodUid);
}

/// The volumes that are served.
pub struct Volumes<H> {
    host: H,
    metrics: Metrics,
    stop: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    volumes: HashMap<String, Volume>,
    drivers: HashMap<u64, mpsc::Sender<Order>>,
    connections: u64,
}

struct Volume {
    about: About,
    sockets: Vec<Arc<OwnedFd>>,
    _serving: DropGuard,
}

/// Publishes the socket for drivers at `path`.
///
/// # Errors
/// When the directory is missing or not writable, or the path is too long for a socket.
pub fn open(path: &Path) -> io::Result<Door> {
    Door::open(path, SOCKET_MODE)
}

impl<H: Host> Volumes<H> {
    /// Prepares to serve volumes; none is served yet.
    pub fn new(host: H, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            host,
            metrics,
            stop: CancellationToken::new(),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many volumes are served.
    pub fn len(&self) -> usize {
        self.lock().volumes.len()
    }

    /// Whether no volume is served.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Listens to drivers at `door`, and serves volumes, until `shutdown`. Never ends by itself.
    pub async fn run(self: Arc<Self>, mut door: Door, shutdown: CancellationToken) {
        let _end = self.stop.clone().drop_guard();
        let errors = &self.metrics.accept_errors;
        while let Some(line) = shutdown
            .run_until_cancelled(door.next(errors, Line::new))
            .await
        {
            let volumes = Arc::clone(&self);
            tokio::spawn(async move {
                let stop = volumes.stop.clone();
                let talked = volumes.talk(Arc::new(line));
                if let Some(Err(error)) = stop.run_until_cancelled(talked).await {
                    tracing::info!(%error, "a CSI driver has gone");
                }
            });
        }
    }

    /// Verifies the token of a volume's Pod and serves the volume.
    async fn take(
        self: &Arc<Self>,
        volume: &str,
        about: About,
        sockets: Vec<OwnedFd>,
        driver: u64,
        wait: bool,
        token: &[u8],
    ) -> Result<(), (Verdict, String)> {
        let pod = about.pod();
        let workload = self.verify(&pod, token).await.inspect_err(|(_, reason)| {
            throttled!(
                &self.metrics.suppressed_log_lines,
                warn,
                pod_uid = %pod,
                ?reason,
                "a volume is refused"
            );
        })?;
        let first = {
            let (volumes, workload) = (Arc::clone(self), Arc::clone(&workload));
            async move { volumes.host.first_exchange(&workload).await }
        };
        if wait {
            // The exchange goes on when this gives up: the kubelet comes again, and finds its end.
            first.await.map_err(|error| match error {
                Error::Forbidden(why) | Error::Malformed(why) | Error::Unauthenticated(why) => {
                    (Verdict::Refused, why)
                }
                Error::Unavailable { reason, .. } => (Verdict::Busy, reason),
            })?;
        } else {
            tokio::spawn(first);
        }
        self.host(volume, about, sockets, driver)?;
        tracing::info!(
            namespace = workload.pod.namespace,
            pod = workload.pod.name,
            pod_uid = %pod,
            "serving a Pod's CSI volume"
        );
        Ok(())
    }

    async fn verify(&self, pod: &PodUid, token: &[u8]) -> Result<Arc<Workload>, (Verdict, String)> {
        let workload = match timeout(VERIFY_TIMEOUT, self.host.verify(token)).await {
            Ok(Ok(workload)) => workload,
            Ok(Err(Error::Unavailable { reason, .. })) => return Err((Verdict::Busy, reason)),
            Ok(Err(error)) => return Err((Verdict::Refused, error.to_string())),
            Err(_elapsed) => {
                let why = "the token could not be verified in time";
                return Err((Verdict::Busy, why.to_owned()));
            }
        };
        if workload.pod.uid != *pod {
            let why = "the token is that of another Pod than the volume's";
            return Err((Verdict::Refused, why.to_owned()));
        }
        Ok(workload)
    }

    /// Serves the sockets of a volume, and tells all drivers but the one that they come from.
    fn host(
        &self,
        id: &str,
        about: About,
        sockets: Vec<OwnedFd>,
        driver: u64,
    ) -> Result<(), (Verdict, String)> {
        let busy = |why: String| (Verdict::Busy, why);
        let sockets: [OwnedFd; 2] = sockets
            .try_into()
            .map_err(|_| busy("the driver has handed over other than two sockets".to_owned()))?;
        for (socket, kind) in sockets
            .iter()
            .zip([SocketType::SEQPACKET, SocketType::STREAM])
        {
            if !listens(socket, kind) {
                return Err(busy("the driver has handed over something else".to_owned()));
            }
        }
        let [enroll, agent] = sockets.map(Arc::new);
        let mut state = self.lock();
        if !state.volumes.contains_key(id) && state.volumes.len() >= MAX_VOLUMES {
            let why = "this node's agent serves as many volumes as it may";
            return Err(busy(why.to_owned()));
        }
        let serving = self.stop.child_token();
        let served = agent.try_clone().and_then(|listener| {
            let (pod, enroll) = (about.pod(), Arc::clone(&enroll));
            self.host
                .serve(&pod, enroll, StdListener::from(listener), serving.clone())
        });
        served.map_err(|error| busy(format!("failed to serve the volume's sockets: {error}")))?;
        let sockets = vec![enroll, agent];
        for (_, other) in state.drivers.iter().filter(|(other, _)| **other != driver) {
            // One that takes nothing is told all when it connects again.
            let _ = other.try_send(hold(id, &about, &sockets));
        }
        let volume = Volume {
            about,
            sockets,
            _serving: serving.drop_guard(),
        };
        state.volumes.insert(id.to_owned(), volume);
        self.count(&state);
        Ok(())
    }

    fn forget(&self, id: &str, ended: bool) {
        let mut state = self.lock();
        let Some(volume) = state.volumes.remove(id) else {
            return;
        };
        self.count(&state);
        let pod = volume.about.pod();
        let others = state.volumes.values().any(|other| other.about.pod() == pod);
        drop(state);
        drop(volume);
        if ended && !others {
            self.host.ended(&pod);
        }
    }

    fn count(&self, state: &State) {
        let volumes = i64::try_from(state.volumes.len()).unwrap_or(i64::MAX);
        self.metrics.csi_volumes.set(volumes);
    }
}

/// Whether this is a listening unix socket of that kind.
fn listens(socket: &OwnedFd, kind: SocketType) -> bool {
    sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(socket) == Ok(kind)
        && sockopt::socket_acceptconn(socket) == Ok(true)
}
