//! Builds each part once, binds, runs until shutdown, drains.

mod background;
mod doors;
mod mounted;
mod pods;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus::Registry as Series;
use shared::serve::{Connections, Limits, serve};
use shared::telemetry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::doors::Doors;
use self::mounted::Mounted;
use self::pods::Pods;
use crate::broker::Broker;
use crate::cache::Cache;
use crate::config::{Config, Serve};
use crate::enrolment::{Intake, Registry};
use crate::exchange::coreweave::CoreWeave;
use crate::identity::Verifier;
use crate::link::{Link, Standing};
use crate::metrics::{Delivery, Metrics};
use crate::published::PublishedSocket;
use crate::route::Route;
use crate::status::{Ledger, Reporter, Sources, StatusSocket};
use crate::supervise;
use crate::unanswered::Unanswered;
use crate::volumes::Volumes;
use crate::watch::{Unserved, Watch};
use crate::workload::PodUid;
use shared::admin::{Admin, Readiness};
use shared::clock::Clock;
use shared::parts::Parts;

/// How long the start waits for what the keeper holds. The sockets are published after that: what
/// comes through them must find the memory of the agent before.
const SYNC_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the end waits for exchanges that are under way and for the keeper.
const SAVE_TIMEOUT: Duration = Duration::from_secs(8);
/// Every user of every Pod may ask.
const PUBLIC_MODE: u32 = 0o666;
/// Connections of probes and scrapers.
const ADMIN_CONNECTIONS: usize = 64;
/// Pods that are refused and not told of yet.
const MAX_REFUSED: usize = 64;

/// Takes a Pod that has ended out of memory.
type Forget = Box<dyn Fn(&PodUid) + Send + Sync>;

/// The agent, built and not serving yet.
pub struct App {
    config: Config,
    clock: Clock,
    metrics: Metrics,
    broker: Arc<Broker<CoreWeave>>,
    watch: Option<Watch<Forget>>,
    unserved: Option<Arc<Unserved>>,
    route: Route<Broker<CoreWeave>>,
    limits: Limits,
    connections: Connections,
    registry: Arc<Registry>,
    intake: Intake<Pods<CoreWeave>>,
    volumes: Arc<Volumes<Mounted<CoreWeave>>>,
    link: Option<Link<Pods<CoreWeave>, Broker<CoreWeave>>>,
    admin: Arc<Admin>,
    admin_socket: TcpListener,
    status: StatusSocket<CoreWeave>,
}

impl App {
    /// Builds all parts and binds the admin port. `descriptors` is how many the process may open;
    /// `None` is without limit. `unanswered` holds connections that are being answered.
    ///
    /// # Errors
    /// When a part cannot be built or the address is taken.
    pub async fn bind(
        config: Config,
        descriptors: Option<u64>,
        unanswered: Arc<Unanswered>,
    ) -> anyhow::Result<Self> {
        let series = Series::new();
        let metrics = Metrics::new(&series).context("failed to register the metrics")?;
        telemetry::count_panics(metrics.panics.clone());
        metrics.worker_restarts.inc_by(supervise::restarts());
        let clock = Clock::system();
        let verifier = Verifier::new(
            config.identity.clone(),
            config.keys.clone(),
            clock.clone(),
            metrics.clone(),
        )?;
        let exchange = CoreWeave::new(config.exchange.clone(), clock.clone(), metrics.clone())?;
        let ledger = Ledger::new(clock.clone());
        let policy = config.cache.clone();
        let cache = Cache::new(exchange, policy, clock.clone(), metrics.clone());
        let mut broker = Broker::new(verifier, cache);
        let (told, refused) = mpsc::channel(MAX_REFUSED);
        if config.watch.is_some() {
            broker = broker.telling(told);
        }
        let broker = Arc::new(broker);
        let asked = Arc::clone(&broker);
        let route = Route::new(asked, metrics.clone(), Some(Arc::clone(&ledger)));
        let limits = limits(&config.serve);
        let max_connections = affordable(config.serve.max_connections, descriptors);
        let connections = Connections::new(max_connections, metrics.serving());
        let registry = Registry::new(config.enrolment.max_pods);

        if let Some(directory) = config.enrolment.socket.parent() {
            make(directory, 0o775)?;
        }
        let pods = Pods {
            broker: Arc::clone(&broker),
            route: route.clone(),
            limits: limits.clone(),
            connections: connections.clone(),
            ledger: Arc::clone(&ledger),
        };
        let (settings, enrolled) = (config.enrolment.clone(), Arc::clone(&registry));
        let (time, counts) = (clock.clone(), metrics.clone());
        let intake = Intake::new(settings, pods, time, counts, enrolled, unanswered)
            .context("failed to look at the agent's own network namespace")?;
        let mounted = Mounted {
            broker: Arc::clone(&broker),
            intake: intake.clone(),
            registry: Arc::clone(&registry),
            metrics: metrics.clone(),
        };
        let volumes = Volumes::new(mounted, metrics.clone());
        let watch = config.watch.clone().map(|settings| {
            let (registry, metrics) = (Arc::clone(&registry), metrics.clone());
            let gone = forget(Arc::clone(&broker));
            Watch::new(settings, registry, refused, metrics, clock.clone(), gone)
        });
        let link = config.keeper.clone().map(|settings| {
            let (registry, memory) = (Arc::clone(&registry), Arc::clone(&broker));
            Link::new(settings, intake.clone(), registry, memory, metrics.clone())
        });
        let admin_socket = TcpListener::bind(config.admin_listen)
            .await
            .with_context(|| format!("failed to bind `--admin-listen` {}", config.admin_listen))?;
        let standing = link.as_ref().map(Link::standing);
        let admin = Arc::new(admin(series, &broker, standing)?);
        if let Some(directory) = config.admin_socket.parent() {
            make(directory, 0o770)?;
        }
        let unserved = watch.as_ref().map(Watch::unserved);
        let sources = Sources {
            broker: Arc::clone(&broker),
            ledger,
            unserved: unserved.clone(),
            admin: Arc::clone(&admin),
            metrics: metrics.clone(),
        };
        let reporter = Reporter::new(&config, sources, clock.clone());
        let path = &config.admin_socket;
        let status = bound(path, StatusSocket::bind(path, reporter))?;
        Ok(Self {
            config,
            clock,
            metrics,
            broker,
            watch,
            unserved,
            route,
            limits,
            connections,
            registry,
            intake,
            volumes,
            link,
            admin,
            admin_socket,
            status,
        })
    }

    /// Takes over what the keeper holds, publishes the sockets and serves until `shutdown`. Then it
    /// serves on until another agent has taken its place, if there is a keeper to hand over to and
    /// that does not take longer than the handover time; takes no more connections, lets requests
    /// in flight end within the drain time, and returns.
    ///
    /// # Errors
    /// When a socket cannot be published, or a part that should run for ever has ended: the process
    /// must not go on without it.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        // Whatever answers requests in flight goes on while they drain.
        let draining = CancellationToken::new();
        let _end_background = draining.clone().drop_guard();
        let mut background = self.background(&draining);
        // The end of serving: not when somebody asks for it, but when there is nobody to wait for.
        let stop = CancellationToken::new();
        if let Some(watch) = self.watch {
            // Once the drain has begun listeners end without their Pods.
            background.spawn("the watch of Pods", watch.run(stop.clone()));
        }
        let mut serving = Parts::default();
        let (standing, unlink) = (
            self.link.as_ref().map(Link::standing),
            CancellationToken::new(),
        );
        let _unlink = unlink.clone().drop_guard();
        let mut linked = Parts::default();
        if let Some(link) = self.link {
            linked.spawn("the link to the keeper", link.run(unlink.clone()));
        }
        let admin = self.admin;
        let mut admin_limits = self.limits.clone();
        admin_limits.per_listener = ADMIN_CONNECTIONS;
        let own = Connections::new(ADMIN_CONNECTIONS, self.metrics.serving().beside()?);
        let answer = move |request| {
            let admin = Arc::clone(&admin);
            async move { admin.answer(&request) }
        };
        let listener = self.admin_socket;
        background.spawn(
            "the admin port",
            serve(listener, admin_limits, own, answer, draining.clone()),
        );
        let own = self.metrics.serving().beside()?;
        background.spawn("the status socket", self.status.run(own, draining.clone()));

        if let Some(standing) = &standing
            && !standing.synced(SYNC_TIMEOUT).await
        {
            tracing::warn!("starting without what the keeper holds: it does not answer");
        }
        let doors = Doors {
            intake: self.intake,
            volumes: self.volumes,
            unserved: self.unserved,
            accept_errors: self.metrics.accept_errors.clone(),
        };
        doors.open(&self.config, &mut serving, &stop)?;
        let route = self.route;
        let answer = move |request| {
            let route = route.clone();
            async move { route.answer(request, None).await }
        };
        let path = &self.config.serve.agent_socket;
        let listener = bound(path, PublishedSocket::publish(path, PUBLIC_MODE))?;
        serving.spawn(
            "the shared credential socket",
            serve(
                listener,
                self.limits,
                self.connections,
                answer,
                stop.clone(),
            ),
        );
        self.metrics.listeners.of(Delivery::Direct).set(1);
        tracing::info!("serving");

        let asked = async {
            shutdown.cancelled().await;
            if let Some(standing) = &standing {
                hand_over(standing, self.config.serve.handover_timeout).await;
            }
        };
        tokio::select! {
            biased;
            () = asked => {}
            error = background.ended() => return Err(error),
            error = serving.ended() => return Err(error),
            error = linked.ended() => return Err(error),
        }
        stop.cancel();
        let drained = async {
            tokio::join!(serving.all_ended(), self.registry.drain());
            // A Pod whose enrolment was ending just then.
            self.registry.drain().await;
        };
        match timeout(self.config.serve.drain_timeout, drained).await {
            Ok(()) => tracing::info!("drained"),
            Err(_elapsed) => tracing::warn!("requests were still in flight when the drain ended"),
        }
        if standing.is_some() {
            // Exchanges that are under way end first: what they mint goes to the next agent.
            draining.cancel();
            let saved = async {
                background.all_ended().await;
                unlink.cancel();
                linked.all_ended().await;
            };
            if timeout(SAVE_TIMEOUT, saved).await.is_err() {
                tracing::warn!("the keeper did not take the last state");
            }
        }
        Ok(())
    }
}

/// Serves on until another agent serves in this one's place, or none does in time.
async fn hand_over(standing: &Standing, limit: Duration) {
    if !standing.is_synced() {
        return;
    }
    tracing::info!(
        ?limit,
        "serving on until another agent takes this one's place"
    );
    if standing.superseded(limit).await {
        tracing::info!("another agent serves; draining");
    } else {
        tracing::info!("no other agent has come; draining");
    }
}

fn admin(
    series: Series,
    broker: &Arc<Broker<CoreWeave>>,
    standing: Option<Arc<Standing>>,
) -> anyhow::Result<Admin> {
    let (keys, gauges) = (Arc::clone(broker), Arc::clone(broker));
    let mut readiness =
        Readiness::default().with("issuer keys", move || keys.verifier().has_keys());
    if let Some(standing) = standing {
        readiness = readiness.with("keeper", move || standing.is_synced());
    }
    Admin::new(series, readiness, move || gauges.observe())
        .context("failed to register the process metrics")
}

fn forget(broker: Arc<Broker<CoreWeave>>) -> Forget {
    Box::new(move |pod| broker.forget(pod))
}

/// Names the path of a socket that could not be published.
fn bound<T>(path: &Path, socket: io::Result<T>) -> anyhow::Result<T> {
    socket.with_context(|| format!("failed to bind `{}`", path.display()))
}

fn limits(serve: &Serve) -> Limits {
    Limits {
        per_listener: serve.max_connections_per_listener,
        head_timeout: serve.header_timeout,
        idle_timeout: serve.idle_timeout,
        ..Limits::default()
    }
}

/// Half of the descriptors may be connections: the rest is for listeners, enrolments and upstream.
fn affordable(wanted: usize, descriptors: Option<u64>) -> usize {
    let half = descriptors.map_or(usize::MAX, |limit| {
        usize::try_from(limit / 2).unwrap_or(usize::MAX)
    });
    if half < wanted {
        tracing::warn!(
            wanted,
            affordable = half,
            "the descriptor limit allows fewer connections"
        );
    }
    wanted.min(half)
}

/// Makes a directory of sockets where nobody has prepared it. One that is there is left as it is:
/// mounts of a directory that is replaced would go stale.
fn make(directory: &Path, mode: u32) -> anyhow::Result<()> {
    match DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)
    {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| {
                format!(
                    "failed to make `{}`: make it, or let the agent's user write to its parent",
                    directory.display()
                )
            })
        }
        _ => Ok(()),
    }
}
