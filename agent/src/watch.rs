//! The watch of this node's Pods: what the API server shows of them against the listeners that are
//! served.
//!
//! It ends the listeners of Pods that have ended as soon as their interfaces are gone too, takes
//! listeners that are not where their Pod is, and says on the Pod, as an Event, and in metrics what
//! a Pod lacks. `look` has every decision.
//!
//! Nothing depends on it: while the API server is away, or never was there, the agent serves,
//! renews, enrols and [reaps](crate::reap) as ever, and this watch concludes nothing.

mod accounts;
mod look;
mod memory;
mod notice;
mod pod;
#[cfg(test)]
mod script;
mod since;
mod tell;
mod unserved;

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use kube::api::{Api, ListParams};
use kube::runtime::watcher;
use kube::{Client, Config};
use reqwest::Url;
use shared::clock::Clock;
use shared::{api, throttled};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::accounts::Accounts;
use self::look::{Judge, Sight};
use self::memory::Pods;
use self::notice::Notice;
use self::pod::Object;
use self::tell::Teller;
pub(crate) use self::unserved::LostPod;
pub use self::unserved::{Unserved, UnservedReason, UnservedView};
use crate::broker::Refused;
use crate::enrolment::{Registry, Witness};
use crate::metrics::{ListenerEnd, Metrics};
use crate::workload::PodUid;

/// How long a difference between the API server and the node lasts before it counts, by default.
pub const DEFAULT_GRACE: Duration = Duration::from_mins(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The status of a watch that cannot go on where it ended.
const GONE: u16 = 410;
/// How long until a client is tried again that could not be made: a file is missing or no PEM.
const RETRY: Duration = Duration::from_secs(30);
/// What changes together is looked at together.
const TOGETHER: Duration = Duration::from_millis(50);
/// How often it is looked while time alone may bring more: an interface that is about to go.
const PENDING: Duration = Duration::from_secs(1);
/// How often otherwise: Pods enrol without a word of the API server.
const IDLE: Duration = Duration::from_secs(15);

/// How this node's Pods are watched.
#[derive(Clone)]
pub struct Settings {
    /// The API server.
    pub api_server: Url,
    /// The directory with the agent's own `token` and the cluster's `ca.crt`; both are read again
    /// when they change.
    pub service_account_directory: PathBuf,
    /// The node whose Pods are watched.
    pub node: String,
    /// Namespaces whose Pods nobody expects to be injected.
    pub excluded_namespaces: HashSet<String>,
    /// How long a difference lasts before it counts.
    pub grace: Duration,
    /// Whether Events are created.
    pub events: bool,
}

/// A URL may hold a password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field(
                "api_server",
                &self.api_server.origin().ascii_serialization(),
            )
            .field("node", &self.node)
            .field("excluded_namespaces", &self.excluded_namespaces)
            .field("grace", &self.grace)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// The watch, to be run. `G` is told of each Pod whose listeners it has ended.
#[derive(Debug)]
pub struct Watch<G> {
    settings: Settings,
    registry: Arc<Registry>,
    refused: mpsc::Receiver<Refused>,
    metrics: Metrics,
    gone: G,
    pods: Pods,
    judge: Judge,
    accounts: Accounts,
    teller: Teller,
    unserved: Arc<Unserved>,
}

impl<G: Fn(&PodUid)> Watch<G> {
    /// Puts it together; [`run`](Self::run) starts it. `refused` brings the Pods that CoreWeave
    /// refuses.
    pub fn new(
        settings: Settings,
        registry: Arc<Registry>,
        refused: mpsc::Receiver<Refused>,
        metrics: Metrics,
        clock: Clock,
        gone: G,
    ) -> Self {
        let node = settings.node.clone();
        registry.expect_networks();
        Self {
            pods: Pods::new(node.clone()),
            judge: Judge::new(settings.grace, settings.excluded_namespaces.clone()),
            accounts: Accounts::new(metrics.suppressed_log_lines.clone()),
            teller: Teller::new(settings.events, node, clock, metrics.clone()),
            unserved: Arc::default(),
            settings,
            registry,
            refused,
            metrics,
            gone,
        }
    }

    /// The Pods that it finds to lack something, for whoever asks.
    pub fn unserved(&self) -> Arc<Unserved> {
        Arc::clone(&self.unserved)
    }

    /// Watches until `shutdown`. Whatever fails is logged, counted and tried again for ever.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let forever = async {
            loop {
                match client(&self.settings) {
                    Ok(client) => self.watch(&client).await,
                    Err(error) => {
                        self.metrics.watch.failures.inc();
                        tracing::warn!(
                            error = format!("{error:#}"),
                            "Pods cannot be watched, trying again: mount a service account \
                             token, or give `--watch-pods false`"
                        );
                    }
                }
                sleep(RETRY).await;
            }
        };
        shutdown.run_until_cancelled(forever).await;
    }

    async fn watch(&mut self, client: &Client) {
        let pods: Api<Object> = Api::all(client.clone());
        // From the API server's memory, where Pods are sorted by node: what is a little old does no
        // harm, and a whole fleet that starts anew must not read every Pod out of etcd.
        let list = ListParams::default()
            .fields(&format!("spec.nodeName={}", self.settings.node))
            .at("0");
        let mut events = pin!(api::watched(pods, list));
        let mut look_at = Instant::now();
        loop {
            let soon = Instant::now() + TOGETHER;
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        self.pods.apply(event);
                        look_at = look_at.min(soon);
                    }
                    Some(Err(error)) => self.interrupted(&error),
                    None => return,
                },
                Some(Refused { pod, message }) = self.refused.recv() => {
                    self.teller.tell(Notice::refused(&pod, &message), Instant::now());
                }
                () = self.accounts.answered() => look_at = look_at.min(soon),
                () = self.teller.posted() => {}
                () = sleep_until(look_at) => {
                    let is_pending = self.look(client);
                    look_at = Instant::now() + if is_pending { PENDING } else { IDLE };
                }
            }
            self.teller.post(client, Instant::now());
        }
    }

    fn interrupted(&mut self, error: &watcher::Error) {
        // What the watch had seen last is too long ago for the API server: all is listed anew.
        if matches!(error, watcher::Error::WatchError(status) if status.code == GONE) {
            tracing::debug!(reason = %api::watch_reason(error), "listing this node's Pods anew");
            return;
        }
        self.pods.interrupted(Instant::now());
        self.metrics.watch.failures.inc();
        throttled!(
            &self.metrics.suppressed_log_lines,
            warn,
            reason = %api::watch_reason(error),
            "failed to watch this node's Pods, trying again: the agent's ClusterRole must allow \
             list and watch of `pods`. Serving, renewing and enrolling need it not"
        );
    }

    /// Looks once and does what follows. Says whether time alone may bring more.
    fn look(&mut self, client: &Client) -> bool {
        let now = Instant::now();
        if self.pods.is_listed() {
            let networks = self.pods.iter();
            let networks = networks.map(|seen| (seen.pod.uid.clone(), seen.host_network));
            self.registry.show_networks(networks.collect());
        }
        let served = self.registry.witnesses();
        let look = self.judge.look(&self.pods, &served, &self.accounts, now);
        let is_pending = look.is_pending || self.teller.is_waiting();
        self.metrics.watch.pods.set(count(self.pods.len()));

        for (pod, witness) in look.ended {
            if self.registry.remove_witnessed(pod, witness) {
                self.metrics.watch.ended.of(ListenerEnd::PodEnded).inc();
                tracing::info!(pod_uid = %pod, "a Pod has ended; its listeners end");
                (self.gone)(pod);
            }
        }
        let mut rejected = Vec::new();
        for (seen, witness) in look.misplaced {
            let pod = &seen.pod;
            if self.registry.remove_witnessed(&pod.uid, witness) {
                self.metrics.watch.ended.of(ListenerEnd::Misplaced).inc();
                tracing::warn!(
                    namespace = pod.namespace,
                    pod = pod.name,
                    pod_uid = %pod.uid,
                    addresses = ?seen.addresses,
                    found = ?witness.addresses(),
                    "a Pod's listener is in a network namespace with none of the Pod's addresses; \
                     it ends"
                );
                (self.gone)(&pod.uid);
                self.teller.tell(Notice::rejected(pod), now);
                rejected.push(pod.uid.clone());
            }
        }
        if let Some(lacks) = look.lacks {
            let metrics = &self.metrics.watch;
            metrics.without_listener.set(count(lacks.listener.len()));
            metrics.without_injection.set(count(lacks.injection.len()));
            let (mut unserved, mut lost) = (Vec::new(), Vec::new());
            for seen in lacks.listener {
                let mut reason = UnservedReason::ListenerRejected;
                if !self.judge.is_rejected(&seen.pod.uid) {
                    reason = UnservedReason::ListenerLost;
                    self.teller.tell(Notice::listener_lost(&seen.pod), now);
                    if !seen.host_network {
                        lost.push(LostPod {
                            pod: seen.pod.clone(),
                            addresses: seen.addresses.clone(),
                            port: seen.port,
                        });
                    }
                }
                unserved.push(UnservedView::of(&seen.pod, reason));
            }
            for seen in lacks.injection {
                self.teller.tell(Notice::not_injected(&seen.pod), now);
                unserved.push(UnservedView::of(&seen.pod, UnservedReason::NotInjected));
            }
            self.unserved.found(unserved, lost);
            self.accounts.keep(&lacks.accounts);
            if let Some(account) = lacks.due {
                self.accounts.ask(client, account);
            }
        }
        for pod in &rejected {
            self.judge.reject(pod);
        }
        is_pending
    }
}

impl Sight for Witness {
    fn is_gone(&self) -> Option<bool> {
        (!self.interfaces.is_empty()).then(|| Self::is_gone(self))
    }

    fn addresses(&self) -> Vec<IpAddr> {
        Self::addresses(self)
    }
}

fn count(pods: usize) -> i64 {
    i64::try_from(pods).unwrap_or(i64::MAX)
}

/// A client with the agent's own token, never through a proxy. Does not connect yet.
fn client(settings: &Settings) -> anyhow::Result<Client> {
    let url = &settings.api_server;
    let address = url.as_str().parse();
    let address = address.context("failed to read the API server's URL")?;
    let directory = &settings.service_account_directory;
    let mut config = Config::new(address);
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.root_cert_file = Some(directory.join("ca.crt"));
    config.auth_info.token_file = Some(directory.join("token").display().to_string());
    Client::try_from(config).with_context(|| {
        format!(
            "failed to build the API client with `token` and `ca.crt` in `{}`",
            directory.display()
        )
    })
}
