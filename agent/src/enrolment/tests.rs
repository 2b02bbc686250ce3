//! Enrolment over real sockets, from network namespaces of their own (as root, or under
//! `unshare -Ur`).

mod cookie;
mod hostile;
mod pod;
mod reaping;
mod reattach;
mod sharing;

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::Registry as MetricsRegistry;
use rustix::net::sockopt;
use secrecy::SecretString;
use shared::clock::Clock;
use shared::enrolment::Status;
use shared::serve::Accept as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::pod::{PodNamespace, reply, send};
use super::*;
use crate::metrics::{Delivery, EnrolmentOutcome, Metrics};
use crate::unanswered::Unanswered;
use crate::workload::{Identity, Token};

const PORT: u16 = 27169;

/// Tokens are `good-<uid>`; the uid says what the issuer does.
#[derive(Debug, Default)]
struct Cluster {
    exchanges: Arc<AtomicUsize>,
    addresses: Vec<IpAddr>,
}

impl Enroller for Cluster {
    async fn verify(&self, token: &[u8]) -> Result<Arc<Workload>, Error> {
        let uid = str::from_utf8(token)
            .ok()
            .and_then(|token| token.strip_prefix("good-"))
            .ok_or_else(|| Error::Unauthenticated("the token is not good".to_owned()))?;
        Ok(Arc::new(Workload {
            identity: Identity::new("https://issuer.example", "subject", "audience"),
            pod: Pod {
                uid: PodUid::new(uid),
                name: uid.to_owned(),
                namespace: "namespace".to_owned(),
                service_account: "default".to_owned(),
            },
            token: Token::new(SecretString::from("good")),
            token_expires_at: Timestamp::MAX,
        }))
    }

    async fn first_exchange(&self, workload: &Arc<Workload>) -> Result<(), Error> {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        match workload.pod.uid.as_str() {
            "refused" => Err(Error::Forbidden("grant it".to_owned())),
            "slow" => std::future::pending().await,
            _ => Ok(()),
        }
    }

    fn addresses(&self, _: &PodUid) -> Vec<IpAddr> {
        self.addresses.clone()
    }

    fn serve(
        &self,
        tenants: Arc<Tenants>,
        mut listener: PodListener,
        stop: CancellationToken,
    ) -> JoinHandle<()> {
        // A connection that waits there is answered at once.
        assert!(tenants.only().is_some(), "it is served before it has a Pod");
        tokio::spawn(async move {
            let serve = async {
                loop {
                    if let Ok(mut stream) = listener.accept().await {
                        let tenants = Arc::clone(&tenants);
                        tokio::spawn(async move {
                            let _ = stream.read(&mut [0]).await;
                            let known = ["a", "b", "bare", "refused", "slow"].map(PodUid::new);
                            let served = known.iter().filter(|pod| tenants.has(pod));
                            let served: Vec<_> = served.map(PodUid::as_str).collect();
                            let _ = stream.write_all(served.join("+").as_bytes()).await;
                        });
                    }
                }
            };
            tokio::select! {
                () = serve => {}
                () = stop.cancelled() => {}
            }
        })
    }

    fn list(&self, _: &Pod, _: &[SocketAddr]) -> Vec<Listed> {
        Vec::new()
    }
}

struct Agent {
    directory: PathBuf,
    metrics: Metrics,
    registry: Arc<Registry>,
    intake: Intake<Cluster>,
    exchanges: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    mode: Mode,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Agent {
    fn start() -> Self {
        Self::with(Mode::Reown, Vec::new())
    }

    fn with(mode: Mode, addresses: Vec<IpAddr>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "enrolment-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let metrics = Metrics::new(&MetricsRegistry::new()).unwrap();
        let settings = Settings {
            mode,
            first_exchange_wait: Duration::from_millis(200),
            message_timeout: Duration::from_secs(30),
            max_waiting: 64,
            ..Settings::new(directory.join("enroll.sock"))
        };
        let registry = Registry::new(settings.max_pods);
        let cluster = Cluster {
            addresses,
            ..Cluster::default()
        };
        let exchanges = Arc::clone(&cluster.exchanges);
        let intake = Intake::new(
            settings,
            cluster,
            Clock::system(),
            metrics.clone(),
            Arc::clone(&registry),
            Unanswered::new().unwrap(),
        );
        let intake = intake.unwrap();
        let door = intake.open().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(intake.clone().run(door, None, shutdown.clone()));
        Self {
            directory,
            metrics,
            registry,
            intake,
            exchanges,
            shutdown,
            mode,
        }
    }

    fn ask(&self, token: &str, descriptors: &[BorrowedFd<'_>]) -> (Status, String) {
        reply(&self.send(token, descriptors))
    }

    fn send(&self, token: &str, descriptors: &[BorrowedFd<'_>]) -> OwnedFd {
        send(
            &self.directory.join("enroll.sock"),
            PORT,
            token,
            descriptors,
        )
    }

    /// Enrols `pod` as `caios-enroll` would.
    fn enrol(&self, uid: &str, pod: &PodNamespace) -> (Status, String) {
        let port = match self.mode {
            Mode::Reown => 0,
            Mode::Plain => PORT,
        };
        let (listener, _connection) = pod.loopback_at(port);
        self.ask(&format!("good-{uid}"), &[listener.as_fd()])
    }

    fn count(&self, outcome: EnrolmentOutcome) -> u64 {
        self.metrics.enrolments.of(outcome).get()
    }

    fn listeners(&self) -> i64 {
        self.metrics.listeners.of(Delivery::Handoff).get()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_served_after_its_enrolment_and_enrolling_again_changes_nothing() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    assert_eq!(pod.read(PORT), "a");
    assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    assert_eq!(pod.read(PORT), "a");
    assert_eq!(agent.count(EnrolmentOutcome::Enrolled), 1);
    assert_eq!(agent.count(EnrolmentOutcome::Known), 1);
    assert_eq!(agent.exchanges.load(Ordering::Relaxed), 2);
    assert_eq!((agent.registry.len(), agent.listeners()), (1, 1));
    let taken = pod.run(|| TcpListener::bind(("127.0.0.1", PORT)).is_err());
    assert!(taken, "the Pod can bind the agent's port");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_loopback_listener_is_rejected_and_another_pod_still_enrols() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    let (listener, connection) = pod.loopback();
    let anywhere = pod.run(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let udp = pod.run(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    let unix = UnixListener::bind(agent.directory.join("other.sock")).unwrap();
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let (pipe, _end) = std::io::pipe().unwrap();
    let quiet = pod.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let many = [listener.as_fd(); 64];
    for (case, descriptors, said) in [
        ("file", &[file.as_fd()][..], "no TCP socket"),
        ("pipe", &[pipe.as_fd()], "no TCP socket"),
        ("UDP", &[udp.as_fd()], "no TCP socket"),
        ("unix", &[unix.as_fd()], "no TCP socket"),
        ("connected", &[connection.as_fd()], "does not listen"),
        ("0.0.0.0", &[anywhere.as_fd()], "not on loopback"),
        ("quiet", &[quiet.as_fd()], "no connection was waiting"),
        ("none", &[], "no listener"),
        ("two of one", &many[..2], "must be on [::1]"),
        ("three", &many[..3], "too many"),
        ("64", &many, "too many"),
    ] {
        let (status, message) = agent.ask("good-a", descriptors);
        assert_eq!(status, Status::Rejected, "{case}: {message}");
        assert!(message.contains(said), "{case}: {message}");
    }
    assert_eq!(agent.count(EnrolmentOutcome::Rejected), 11);
    assert_eq!(agent.registry.len(), 0);
    assert_eq!(agent.exchanges.load(Ordering::Relaxed), 0);
    assert_eq!(agent.enrol("b", &PodNamespace::new()).0, Status::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_rejected_before_its_descriptors_are_looked_at() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    let (listener, _connection) = pod.loopback();
    let (status, message) = agent.ask("bad", &[listener.as_fd()]);
    assert_eq!(
        (status, message.as_str()),
        (Status::Rejected, "the token is not good")
    );
    assert_eq!(agent.count(EnrolmentOutcome::Unauthenticated), 1);
    let (stream, _) = listener.accept().unwrap();
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_duplicate_with_linger_cannot_hold_up_the_agent() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    let (listener, _connection) = pod.loopback();
    sockopt::set_socket_linger(&listener, Some(Duration::from_secs(100))).unwrap();
    listener.set_nonblocking(false).unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(agent.ask("good-a", &[listener.as_fd()]).0, Status::Ready);
    for _ in 0..20 {
        assert_eq!(pod.read(PORT), "a");
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_lock_nobody_out() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    let path = agent.directory.join("enroll.sock");
    let silent: Vec<OwnedFd> = (0..300).map(|_| pod::dial(&path)).collect();
    assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    assert_eq!(pod.read(PORT), "a");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_never_read_and_half_messages_are_harmless() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    let path = agent.directory.join("enroll.sock");
    let half = pod::dial(&path);
    rustix::net::send(&half, b"caios-e\x01", rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(reply(&half).0, Status::Rejected);
    let deaf: Vec<OwnedFd> = (0..50).map(|_| agent.send("bad", &[])).collect();
    assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_the_pod_has_taken_is_named() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    let _squatter = pod.run(|| TcpListener::bind(("127.0.0.1", PORT)).unwrap());
    let (status, message) = agent.enrol("a", &pod);
    assert_eq!(status, Status::Rejected);
    assert!(message.contains("27169"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_or_refusing_issuer_holds_no_pod() {
    let agent = Agent::start();
    let (refused, slow) = (PodNamespace::new(), PodNamespace::new());
    let answer = agent.enrol("refused", &refused);
    assert_eq!(answer, (Status::RefusedByIssuer, "grant it".to_owned()));
    assert_eq!(agent.enrol("slow", &slow).0, Status::Enrolled);
    assert_eq!(
        (refused.read(PORT), slow.read(PORT)),
        ("refused".to_owned(), "slow".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_the_pods_address_is_rejected() {
    let agent = Agent::with(Mode::Reown, vec!["10.1.2.3".parse().unwrap()]);
    let (status, message) = agent.enrol("a", &PodNamespace::new());
    assert_eq!(status, Status::Rejected);
    assert!(message.contains("addresses"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_mode_serves_the_pods_own_listener() {
    let (agent, pod) = (Agent::with(Mode::Plain, Vec::new()), PodNamespace::new());
    let (elsewhere, _connection) = pod.loopback();
    let (status, message) = agent.ask("good-a", &[elsewhere.as_fd()]);
    assert_eq!(status, Status::Rejected);
    assert!(message.contains("not on port 27169"), "{message}");
    assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    for _ in 0..5 {
        assert_eq!(pod.read(PORT), "a");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_of_a_pod_whose_interface_is_gone_ends() {
    let (agent, pod, bare) = (Agent::start(), PodNamespace::new(), PodNamespace::new());
    pod.add_interface("eth0", None);
    assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    assert_eq!(agent.enrol("bare", &bare).0, Status::Ready);
    let registry = Arc::clone(&agent.registry);
    let shutdown = agent.shutdown.clone();
    let (gone, mut ended) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        let told = |pod: &PodUid| gone.try_send(pod.clone()).unwrap();
        crate::reap::run(&registry, Duration::from_millis(20), told, shutdown).await;
    });
    assert_eq!(pod.read(PORT), "a");
    assert_eq!(agent.registry.len(), 2);
    pod.remove_interface("eth0");
    let told = tokio::time::timeout(Duration::from_secs(10), ended.recv()).await;
    assert_eq!(told.unwrap(), Some(PodUid::new("a")));
    pod.until_refused(PORT);
    assert_eq!(bare.read(PORT), "bare");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_of_the_connection_gains_nothing_and_delays_only_itself() {
    let (agent, pod, other) = (Agent::start(), PodNamespace::new(), PodNamespace::new());
    let (listener, _connection) = pod.loopback();
    let stolen = listener.accept().unwrap();
    let thief = agent.send("good-a", &[listener.as_fd()]);
    assert_eq!(agent.enrol("b", &other).0, Status::Ready);
    let (status, message) = reply(&thief);
    assert_eq!(status, Status::Rejected, "{message}");
    assert!(message.contains("no connection was waiting"), "{message}");
    drop(stolen);
}
