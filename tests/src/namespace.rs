//! A network and mount namespace with a runtime of its own.

use std::fs::File;
use std::future::Future;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context as _, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

/// A thread in a network and a mount namespace of its own. Every thread and every process that its
/// runtime starts is there too.
#[derive(Debug)]
pub struct Namespace {
    runtime: Handle,
    network: File,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Makes the namespaces, with a loopback interface that is up and `hosts` in the place of
    /// `/etc/hosts`.
    ///
    /// # Errors
    /// When the process may not make namespaces: the error says how it may.
    pub fn new(name: &str, hosts: Option<&Path>) -> anyhow::Result<Self> {
        let hosts = hosts.map(Path::to_owned);
        let (ready, started) = mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || match enter(hosts.as_deref()) {
                Ok((runtime, network)) => {
                    let _ = ready.send(Ok((runtime.handle().clone(), network)));
                    let _ = runtime.block_on(ended);
                    runtime.shutdown_background();
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            })
            .context("failed to start a thread")?;
        let (runtime, network) = started.recv().context("the namespace's thread ended")??;
        Ok(Self {
            runtime,
            network,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Runs a future inside and waits for its result.
    ///
    /// # Panics
    /// When the future panics.
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = sender.send(future.await);
        });
        #[expect(
            clippy::expect_used,
            reason = "the panic of the future is the test's failure"
        )]
        receiver.recv().expect("the future ended without a panic")
    }

    /// Runs a closure on a thread inside and waits for its result. For what blocks.
    ///
    /// # Panics
    /// When the closure panics.
    pub fn call<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // Spawned from inside: a new thread is born into the namespaces of the one that makes it.
        #[expect(
            clippy::expect_used,
            reason = "the panic of the closure is the test's failure"
        )]
        self.run(async move {
            tokio::task::spawn_blocking(work)
                .await
                .expect("the closure ended without a panic")
        })
    }

    /// The runtime whose threads are inside.
    pub fn handle(&self) -> &Handle {
        &self.runtime
    }

    /// The network namespace, for moving interfaces into it. Valid while `self` lives.
    pub fn network(&self) -> RawFd {
        self.network.as_raw_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread into new namespaces and builds a runtime there.
fn enter(hosts: Option<&Path>) -> anyhow::Result<(Runtime, File)> {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS) {
        bail!(
            "failed to make a network namespace: {error}; run as root, or in a user namespace of \
             your own: unshare --user --map-root-user <command>"
        );
    }
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("failed to make the mounts private")?;
    if let Some(hosts) = hosts {
        mount(Some(hosts), "/etc/hosts", none, MsFlags::MS_BIND, none)
            .with_context(|| format!("failed to mount {} on /etc/hosts", hosts.display()))?;
    }
    let network =
        File::open("/proc/thread-self/ns/net").context("failed to open the network namespace")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to build a runtime")?;
    runtime.block_on(crate::link::up("lo"))?;
    Ok((runtime, network))
}
