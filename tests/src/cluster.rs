//! A whole cluster of one node: a control plane, a kubelet, containerd with runc and a bridge, and
//! the stand-in where CoreWeave is. Needs root.
//!
//! Everything runs in namespaces of its own ([`enter()`]), so that nothing of it outlives the process
//! or touches the machine: not `/run`, `/var/lib` and `/var/log`, not its network, not its kernel's
//! settings. The control plane's network is the node's, as on a cluster of one machine.
//!
//! What Pods resolve are names of the real world: `api.coreweave.com`, `cwlota.com`. The stand-in
//! answers there.

mod cgroup;
mod coreweave;
mod enter;
mod kubelet;
mod load;
mod logs;
mod machine;
mod memory;
mod moments;
mod names;
mod node_state;
mod processes;
mod reboot;
mod release;
mod runtime;
mod spec;
mod traces;
mod workload;

pub use coreweave::CoreWeave;
pub use enter::{Entered, Place, enter};
pub use load::{Counts, Demand, Load};
pub use memory::{Memory, Taker};
pub use moments::{Moment, Moments};
pub use processes::Process;
pub use spec::{container, pod_spec, restricted};
pub use workload::{PHASE_DEADLINE, Workload};

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};

use self::node_state::NodeState;
use crate::chart::NAMESPACE;
use crate::control_plane::{ControlPlane, ISSUER, SERVICE};
use crate::server::Server;
use crate::{link, tools};

/// What the node is called.
pub const NODE: &str = "node-a";
/// Where Pods ask for names.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

/// What Pods ask for when they look for the API server.
const SERVICE_NAME: &str = "kubernetes.default.svc.cluster.local";

/// A running cluster. It ends with the process.
pub struct Cluster {
    control_plane: ControlPlane,
    coreweave: CoreWeave,
    containerd: Mutex<Server>,
    kubelet: Mutex<Server>,
    notes: Mutex<Option<String>>,
    place: Place,
}

impl Cluster {
    /// Starts everything in the namespaces of [`enter()`], loads the images, and waits until the node
    /// is ready.
    ///
    /// # Errors
    /// When a part is not installed or does not start; the error shows the end of its log.
    pub fn start(place: Place) -> anyhow::Result<Self> {
        machine::prepare(&place)?;
        let control_plane = ControlPlane::start(place.directory.clone())?.with_nodes()?;
        let network = control_plane.network();
        // What the kubelet mounts for a container must be seen where containerd runs, and the other
        // way round.
        network.call(|| {
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none)
                .context("failed to share the mounts of the node")?;
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
                .context("failed to let the node forward packets")
        })?;
        let coreweave = CoreWeave::start(&control_plane, &place.directory)?;
        network.run(link::add_address("lo", RESOLVER))?;
        let mut names = coreweave.names();
        names.insert(SERVICE_NAME.to_owned(), SERVICE);
        network.run(names::serve(RESOLVER, names))?;
        let containerd = runtime::start(network, &place)?;
        runtime::load(network)?;
        let kubelet = kubelet::start(&control_plane, &place)?;
        let cluster = Self {
            control_plane,
            coreweave,
            containerd: Mutex::new(containerd),
            kubelet: Mutex::new(kubelet),
            notes: Mutex::default(),
            place,
        };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// Its control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// What plays CoreWeave.
    pub fn coreweave(&self) -> &CoreWeave {
        &self.coreweave
    }

    /// Has CoreWeave know the cluster, as step 2 of the tutorial does: its issuer is its audience
    /// too.
    ///
    /// # Errors
    /// When the API server does not say its keys.
    pub fn register_issuer(&self) -> anyhow::Result<()> {
        let keys = self.control_plane.get("/openid/v1/jwks")?.accepted()?;
        let keys = keys.body.to_string();
        self.coreweave.standin().federate(ISSUER, ISSUER, &keys)
    }

    /// Ends the kubelet and starts another one; Pods run on meanwhile.
    ///
    /// # Errors
    /// When it does not end, or the next does not become ready.
    pub fn restart_kubelet(&self) -> anyhow::Result<()> {
        let mut kubelet = locked(&self.kubelet);
        kubelet.terminate()?;
        *kubelet = kubelet::start(&self.control_plane, &self.place)?;
        drop(kubelet);
        self.wait_until_ready()
    }

    /// Starts the kubelet if it has ended, as a node's service manager does: one that began without an API
    /// server gives up after two minutes.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_kubelet_if_ended(&self) -> anyhow::Result<()> {
        let mut kubelet = locked(&self.kubelet);
        if kubelet.has_ended()? {
            *kubelet = kubelet::start(&self.control_plane, &self.place)?;
        }
        drop(kubelet);
        self.wait_until_ready()
    }

    /// Ends containerd and starts another one; containers run on meanwhile.
    ///
    /// # Errors
    /// When it does not end, or the next does not become ready.
    pub fn restart_containerd(&self) -> anyhow::Result<()> {
        let mut containerd = locked(&self.containerd);
        containerd.terminate()?;
        *containerd = runtime::start(self.control_plane.network(), &self.place)?;
        drop(containerd);
        self.wait_until_ready()
    }

    /// Puts an older revision in the place of what etcd has: see
    /// [`ControlPlane::restore_store`]. The kubelet starts anew too, as whoever restores etcd sees to.
    ///
    /// # Errors
    /// When a part does not end, or does not start again.
    pub fn restore_store(&self) -> anyhow::Result<()> {
        self.control_plane.restore_store()?;
        self.restart_kubelet()
    }

    /// Types commands into a shell that has `helm` (4), `kubectl` and the cluster's admin; what they
    /// print.
    ///
    /// # Errors
    /// When one of them fails; the error has what was printed.
    pub fn typed(&self, commands: &str) -> anyhow::Result<String> {
        let mut shell = self.shell()?;
        shell.args(["-euo", "pipefail", "-c", commands]);
        self.control_plane.printed(shell)
    }

    /// Ends everything but the cluster's own parts and the chart, for who comes after a failure.
    ///
    /// # Errors
    /// When something does not end.
    pub fn end_workloads(&self) -> anyhow::Result<()> {
        let commands = format!(
            "kubectl get namespaces --output name \
             | {{ grep --invert-match --extended-regexp '/(default|kube-.*|{NAMESPACE})$' || true; }} \
             | xargs --no-run-if-empty kubectl delete --timeout 2m"
        );
        self.typed(&commands)?;
        Ok(())
    }

    /// A shell that is not started yet: `helm` and `kubectl` on its path, KUBECONFIG set, in the
    /// repository.
    ///
    /// # Errors
    /// When a tool is missing.
    pub fn shell(&self) -> anyhow::Result<Command> {
        let programs = self.place.directory.join("programs");
        std::fs::create_dir_all(&programs)?;
        for (program, name) in [("helm4", "helm"), ("kubectl", "kubectl")] {
            let link = programs.join(name);
            if !link.exists() {
                let program = tools::program("helm", program)?.canonicalize()?;
                std::os::unix::fs::symlink(program, link)?;
            }
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let runtime = runtime::programs()?;
        let mut shell = Command::new("bash");
        shell
            .env(
                "PATH",
                format!("{}:{}:{path}", programs.display(), runtime.display()),
            )
            .env("CONTAINERD_ADDRESS", runtime::SOCKET)
            .env("CONTAINERD_NAMESPACE", "k8s.io")
            .env("KUBECONFIG", self.control_plane.admin_kubeconfig()?)
            .current_dir(repository());
        Ok(shell)
    }

    /// Writes down what the cluster can say of itself, beside the logs of its parts and of the agents
    /// that are gone: for a failure.
    pub fn write_report(&self) -> PathBuf {
        let report = self.place.directory.join("report.txt");
        let said = self.typed(include_str!("cluster/report.sh"));
        let said = said.unwrap_or_else(|error| format!("{error:#}"));
        let _ = std::fs::write(&report, said);
        let _ = self.copy_logs();
        report
    }

    /// Waits until the node is ready and Pods can be bound to it: some of its taints go later than that.
    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let mut state = NodeState::default();
        let ready = || {
            let node = self.control_plane.get(&format!("/api/v1/nodes/{NODE}"));
            state = node.map_or_else(|_| NodeState::default(), |node| NodeState::of(node.body));
            state.takes_pods() && kubelet::is_healthy(self.control_plane.network())
        };
        let waited = locked(&self.kubelet).until("has its node ready", kubelet::START, ready);
        waited.with_context(|| format!("the API server's last word: {state:?}"))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The root of the repository.
fn repository() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
