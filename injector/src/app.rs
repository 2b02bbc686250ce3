//! Builds each part once, binds, runs until shutdown, drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus::Registry;
use shared::admin::{Admin, Readiness};
use shared::clock::Clock;
use shared::parts::Parts;
use shared::serve::{Connections, Counters, Limits, serve};
use shared::telemetry;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::certificates::{Directory, Managed, Status};
use crate::config::{Certificates, Config, Serve};
use crate::decide::Decide;
use crate::lookup::{Lookup, Namespaces, ServiceAccounts};
use crate::metrics::Metrics;
use crate::mutate::Settings;
use crate::own_token::OwnToken;
use crate::route::{self, Route};
use crate::tls::{Listener, Slot};

/// Connections of probes and scrapers.
const ADMIN_CONNECTIONS: usize = 64;

/// Above the 90 s for which API servers keep idle connections (client-go's transport): were we first
/// to close one, a review that is sent on it just then would be lost, and its Pod go without.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);

/// The injector, bound and not serving yet.
pub struct App {
    serve: Serve,
    metrics: Metrics,
    service_accounts: Arc<Lookup<ServiceAccounts>>,
    namespaces: Arc<Lookup<Namespaces>>,
    certificates: Keeper,
    route: Route,
    listener: Listener,
    admin: Arc<Admin>,
    admin_socket: TcpListener,
    /// Cancelled when SIGTERM has come, while connections are still taken.
    ending: CancellationToken,
}

/// Who keeps the certificate.
enum Keeper {
    Managed(Box<Managed>),
    Directory(Directory),
}

impl App {
    /// Builds all parts and binds all sockets. Does not wait for the cluster.
    ///
    /// # Errors
    /// When a part cannot be built or an address is taken.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).context("failed to register the metrics")?;
        telemetry::count_panics(metrics.panics.clone());
        let clock = Clock::system();
        let client = api::client().await?;
        let settings = settings(&config)?;
        let service_accounts = Lookup::new(client.clone(), config.max_remembered, clock.clone());
        let namespaces = Lookup::new(client.clone(), config.max_remembered, clock.clone());
        let slot = Arc::new(Slot::default());
        let status = Arc::new(Status::default());
        let certificates = match config.certificates {
            Certificates::Managed(settings) => Keeper::Managed(Box::new(Managed::new(
                settings,
                &client,
                Arc::clone(&slot),
                Arc::clone(&status),
                clock,
                metrics.clone(),
            ))),
            Certificates::Directory(path) => {
                Keeper::Directory(Directory::new(path, Arc::clone(&slot), metrics.clone()))
            }
        };
        let decide = Decide::new(
            settings,
            Arc::clone(&service_accounts),
            Arc::clone(&namespaces),
            metrics.service_account_lookups.clone(),
        );
        let ending = CancellationToken::new();
        let limits = route::Limits {
            timeout: config.serve.review_timeout,
            reviews: config.serve.max_reviews,
            bytes: config.serve.max_review_bytes,
        };
        let route = Route::new(Arc::new(decide), &limits, metrics.clone(), ending.clone());

        let socket = bound("--listen", config.serve.listen).await?;
        let failures = metrics.handshake_failures.clone();
        let listener =
            Listener::new(socket, Arc::clone(&slot), failures).context("failed to set up TLS")?;
        let admin_socket = bound("--admin-listen", config.admin_listen).await?;
        let managed = matches!(certificates, Keeper::Managed(_)).then_some(status);
        let readiness = readiness(&service_accounts, &namespaces, slot, managed, &ending);
        let (gauge, shown) = (
            metrics.service_accounts.clone(),
            Arc::clone(&service_accounts),
        );
        let refresh = move || gauge.set(i64::try_from(shown.len()).unwrap_or(i64::MAX));
        let admin = Admin::new(registry, readiness, refresh)
            .context("failed to register the process metrics")?;
        Ok(Self {
            serve: config.serve,
            metrics,
            service_accounts,
            namespaces,
            certificates,
            route,
            listener,
            admin: Arc::new(admin),
            admin_socket,
            ending,
        })
    }

    /// Serves until `shutdown`, and `--shutdown-delay` longer, while the cluster learns that this
    /// replica ends; then takes no more connections, lets reviews in flight end within the drain
    /// time, and returns.
    ///
    /// # Errors
    /// When a part that should run for ever has ended: the process must not go on without it.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        // Whatever answers reviews in flight goes on while they drain.
        let (closing, draining) = (CancellationToken::new(), CancellationToken::new());
        let _end_background = draining.clone().drop_guard();
        let (mut background, mut serving) = (Parts::default(), Parts::default());

        let suppressed = &self.metrics.suppressed_log_lines;
        let (lookup, count, stop) = (self.service_accounts, suppressed.clone(), draining.clone());
        background.spawn("the watch of ServiceAccounts", async move {
            lookup.keep(count, stop).await;
        });
        let (lookup, count, stop) = (self.namespaces, suppressed.clone(), draining.clone());
        background.spawn("the watch of namespaces", async move {
            lookup.keep(count, stop).await;
        });
        let stop = draining.clone();
        match self.certificates {
            Keeper::Managed(managed) => background.spawn("the certificate", managed.keep(stop)),
            Keeper::Directory(files) => background.spawn("the certificate", files.keep(stop)),
        }
        let (admin, own) = (self.admin, counters(&self.metrics).beside()?);
        let answer = move |request| {
            let admin = Arc::clone(&admin);
            async move { admin.answer(&request) }
        };
        background.spawn(
            "the admin port",
            serve(
                self.admin_socket,
                limits(ADMIN_CONNECTIONS),
                Connections::new(ADMIN_CONNECTIONS, own),
                answer,
                draining,
            ),
        );

        let route = self.route;
        let answer = move |request| {
            let route = route.clone();
            async move { route.answer(request).await }
        };
        let most = self.serve.max_connections;
        serving.spawn(
            "the webhook",
            serve(
                self.listener,
                limits(most),
                Connections::new(most, counters(&self.metrics)),
                answer,
                closing.clone(),
            ),
        );
        tracing::info!("serving");

        let delay = async {
            shutdown.cancelled().await;
            self.ending.cancel();
            sleep(self.serve.shutdown_delay).await;
        };
        tokio::select! {
            biased;
            () = delay => {}
            error = background.ended() => return Err(error),
            error = serving.ended() => return Err(error),
        }
        closing.cancel();
        match timeout(self.serve.drain_timeout, serving.all_ended()).await {
            Ok(()) => tracing::info!("drained"),
            Err(_elapsed) => tracing::warn!("reviews were still in flight when the drain ended"),
        }
        Ok(())
    }
}

/// What Pods get; the injector's own token says what no flag does.
fn settings(config: &Config) -> anyhow::Result<Settings> {
    let injection = config.injection.clone();
    let own = if injection.needs_own_token() {
        OwnToken::read(&config.service_account_directory).context(
            "`--audience` or `--api-audience` is not given and its default comes from the \
             injector's own token",
        )?
    } else {
        OwnToken {
            issuer: String::new(),
            audiences: Vec::new(),
        }
    };
    let settings = injection.complete(&own.issuer, &own.audiences);
    tracing::info!(
        audience = settings.audience,
        api_audiences = ?settings.api_audiences,
        "Pods get tokens for this audience where no annotation names one"
    );
    Ok(settings)
}

fn readiness(
    service_accounts: &Arc<Lookup<ServiceAccounts>>,
    namespaces: &Arc<Lookup<Namespaces>>,
    slot: Arc<Slot>,
    managed: Option<Arc<Status>>,
    ending: &CancellationToken,
) -> Readiness {
    let (service_accounts, namespaces) = (Arc::clone(service_accounts), Arc::clone(namespaces));
    let ending = ending.clone();
    let readiness = Readiness::default()
        .with("service accounts", move || service_accounts.is_synced())
        .with("namespaces", move || namespaces.is_synced())
        .with("certificate", move || slot.is_loaded())
        .with("not shutting down", move || !ending.is_cancelled());
    match managed {
        Some(status) => readiness.with("caBundle", move || status.is_published()),
        // Whoever gives the certificate publishes its authority.
        None => readiness,
    }
}

async fn bound(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    let socket = bound.with_context(|| format!("failed to bind `{flag}` {address}"))?;
    tracing::info!(flag, address = %socket.local_addr()?, "bound");
    Ok(socket)
}

/// One listener has all connections.
fn limits(connections: usize) -> Limits {
    Limits {
        per_listener: connections,
        idle_timeout: IDLE_TIMEOUT,
        ..Limits::default()
    }
}

fn counters(metrics: &Metrics) -> Counters {
    Counters {
        connections: metrics.connections.clone(),
        listener_pauses: metrics.accept_pauses.clone(),
        total_pauses: metrics.accept_pauses.clone(),
        accept_errors: metrics.accept_errors.clone(),
        suppressed_log_lines: metrics.suppressed_log_lines.clone(),
    }
}
