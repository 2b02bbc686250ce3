//! Builds each part once, binds, runs until shutdown, drains.

mod pods;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use prometheus::Registry as Series;
use shared::serve::{Connections, Counters, Limits, serve};
use shared::telemetry;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::pods::Pods;
use crate::broker::{Broker, Refused};
use crate::cache::Cache;
use crate::config::{Config, Serve};
use crate::enrolment::{Intake, Registry};
use crate::exchange::coreweave::CoreWeave;
use crate::identity::Verifier;
use crate::metrics::{AcceptLimit, Delivery, ListenerEnd, Metrics};
use crate::route::Route;
use crate::watch::Watch;
use crate::{reap, socket};
use shared::admin::{Admin, Readiness};
use shared::clock::Clock;
use shared::parts::Parts;

/// Connections of probes and scrapers.
const ADMIN_CONNECTIONS: usize = 64;
/// Pods that are refused and not told of yet.
const MAX_REFUSED: usize = 64;

/// The agent, bound and not serving yet.
pub struct App {
    config: Config,
    metrics: Metrics,
    broker: Arc<Broker<CoreWeave>>,
    refused: mpsc::Receiver<Refused>,
    route: Route<Broker<CoreWeave>>,
    limits: Limits,
    connections: Connections,
    registry: Arc<Registry>,
    intake: Intake<Pods<CoreWeave>>,
    agent_socket: UnixListener,
    admin: Arc<Admin>,
    admin_socket: TcpListener,
}

impl App {
    /// Builds all parts and binds all sockets. `descriptors` is how many the process may open;
    /// `None` is without limit.
    ///
    /// # Errors
    /// When a part cannot be built or an address is taken.
    pub async fn bind(config: Config, descriptors: Option<u64>) -> anyhow::Result<Self> {
        let series = Series::new();
        let metrics = Metrics::new(&series).context("failed to register the metrics")?;
        telemetry::count_panics(metrics.panics.clone());
        let clock = Clock::system();
        let verifier = Verifier::new(
            config.identity.clone(),
            config.keys.clone(),
            clock.clone(),
            metrics.clone(),
        )?;
        let exchange = CoreWeave::new(config.exchange.clone(), clock.clone(), metrics.clone())?;
        let cache = Cache::new(exchange, config.cache.clone(), clock, metrics.clone());
        let mut broker = Broker::new(verifier, cache);
        let (told, refused) = mpsc::channel(MAX_REFUSED);
        if config.watch.is_some() {
            broker = broker.telling(told);
        }
        let broker = Arc::new(broker);
        let route = Route::new(Arc::clone(&broker), metrics.clone());
        let limits = limits(&config.serve);
        let max_connections = affordable(config.serve.max_connections, descriptors);
        let connections = Connections::new(max_connections, counters(&metrics));
        let registry = Registry::new(config.enrolment.max_pods);

        if let Some(directory) = config.enrolment.socket.parent() {
            make_public(directory)?;
        }
        let pods = Pods {
            broker: Arc::clone(&broker),
            route: route.clone(),
            limits: limits.clone(),
            connections: connections.clone(),
        };
        let enroll_path = config.enrolment.socket.display().to_string();
        let settings = config.enrolment.clone();
        let intake = Intake::bind(settings, pods, metrics.clone(), Arc::clone(&registry))
            .with_context(|| format!("failed to bind `{enroll_path}`"))?;
        let path = &config.serve.agent_socket;
        let agent_socket = socket::publish(path, |aside| UnixListener::bind(aside))
            .with_context(|| format!("failed to bind `{}`", path.display()))?;
        let admin_socket = TcpListener::bind(config.admin_listen)
            .await
            .with_context(|| format!("failed to bind `--admin-listen` {}", config.admin_listen))?;
        let admin = Arc::new(admin(series, &broker)?);
        Ok(Self {
            config,
            metrics,
            broker,
            refused,
            route,
            limits,
            connections,
            registry,
            intake,
            agent_socket,
            admin,
            admin_socket,
        })
    }

    /// Serves until `shutdown`; then takes no more connections, lets requests in flight end
    /// within the drain time, and returns.
    ///
    /// # Errors
    /// When a part that should run for ever has ended: the process must not go on without it.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        // Whatever answers requests in flight goes on while they drain.
        let draining = CancellationToken::new();
        let _end_background = draining.clone().drop_guard();
        let (mut background, mut serving) = (Parts::default(), Parts::default());

        let (broker, stop) = (Arc::clone(&self.broker), draining.clone());
        background.spawn("the refresh of the issuer's keys", async move {
            broker.verifier().keep_keys(stop).await;
        });
        let (broker, stop) = (Arc::clone(&self.broker), draining.clone());
        background.spawn("the renewal of credentials", async move {
            broker.cache().keep(stop).await;
        });
        let (broker, stop) = (Arc::clone(&self.broker), draining.clone());
        let (registry, interval) = (Arc::clone(&self.registry), self.config.poll_interval);
        let ended = self
            .metrics
            .watch
            .ended
            .of(ListenerEnd::InterfacesGone)
            .clone();
        background.spawn("the watch over enrolled Pods", async move {
            let gone = |pod: &_| {
                ended.inc();
                broker.cache().forget(pod);
            };
            reap::run(&registry, interval, gone, stop).await;
        });
        if let Some(settings) = self.config.watch {
            let broker = Arc::clone(&self.broker);
            let gone = move |pod: &_| broker.cache().forget(pod);
            let (registry, metrics) = (Arc::clone(&self.registry), self.metrics.clone());
            let watch = Watch::new(
                settings,
                registry,
                self.refused,
                metrics,
                Clock::system(),
                gone,
            );
            // Once the drain has begun listeners end without their Pods.
            background.spawn("the watch of Pods", watch.run(shutdown.clone()));
        }
        let admin = self.admin;
        let mut admin_limits = self.limits.clone();
        admin_limits.per_listener = ADMIN_CONNECTIONS;
        let own = Connections::new(ADMIN_CONNECTIONS, counters(&self.metrics).beside()?);
        let answer = move |request| {
            let admin = Arc::clone(&admin);
            async move { admin.answer(&request) }
        };
        let listener = self.admin_socket;
        background.spawn(
            "the admin port",
            serve(listener, admin_limits, own, answer, draining),
        );

        serving.spawn("the enrolment socket", self.intake.run(shutdown.clone()));
        let route = self.route;
        let answer = move |request| {
            let route = route.clone();
            async move { route.answer(request, None).await }
        };
        let (listener, limits) = (self.agent_socket, self.limits);
        serving.spawn(
            "the shared credential socket",
            serve(listener, limits, self.connections, answer, shutdown.clone()),
        );
        self.metrics.listeners.of(Delivery::Direct).set(1);
        tracing::info!("serving");

        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            error = background.ended() => return Err(error),
            error = serving.ended() => return Err(error),
        }
        let drained = async {
            tokio::join!(serving.all_ended(), self.registry.drain());
            // A Pod whose enrolment was ending just then.
            self.registry.drain().await;
        };
        match timeout(self.config.serve.drain_timeout, drained).await {
            Ok(()) => tracing::info!("drained"),
            Err(_elapsed) => tracing::warn!("requests were still in flight when the drain ended"),
        }
        Ok(())
    }
}

fn admin(series: Series, broker: &Arc<Broker<CoreWeave>>) -> anyhow::Result<Admin> {
    let (keys, gauges) = (Arc::clone(broker), Arc::clone(broker));
    let readiness = Readiness::default().with("issuer keys", move || keys.verifier().has_keys());
    Admin::new(series, readiness, move || gauges.cache().observe())
        .context("failed to register the process metrics")
}

fn limits(serve: &Serve) -> Limits {
    Limits {
        per_listener: serve.max_connections_per_listener,
        head_timeout: serve.header_timeout,
        idle_timeout: serve.idle_timeout,
        ..Limits::default()
    }
}

fn counters(metrics: &Metrics) -> Counters {
    Counters {
        connections: metrics.connections.clone(),
        listener_pauses: metrics.accept_pauses.of(AcceptLimit::Listener).clone(),
        total_pauses: metrics.accept_pauses.of(AcceptLimit::Total).clone(),
        accept_errors: metrics.accept_errors.clone(),
        suppressed_log_lines: metrics.suppressed_log_lines.clone(),
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

/// Makes the directory of the public sockets where nobody has prepared it. One that is there is
/// left as it is: mounts of a directory that is replaced would go stale.
fn make_public(directory: &Path) -> anyhow::Result<()> {
    match DirBuilder::new()
        .recursive(true)
        .mode(0o775)
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
