//! Peers that keep what they handed over, or hand over what blocks.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle as Thread;

use super::super::descriptor::sockopt::tests::attach_filter;
use super::*;

/// A thread that does something to a listener again and again until this is dropped.
struct Nuisance {
    stop: Arc<AtomicBool>,
    thread: Option<Thread<()>>,
}

impl Nuisance {
    fn start(listener: &TcpListener, act: impl Fn(&TcpListener) + Send + 'static) -> Self {
        let kept = listener.try_clone().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                act(&kept);
                std::thread::yield_now();
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Nuisance {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Takes whatever connection waits, without waiting for one.
fn steal(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    drop(listener.accept());
}

/// Takes the connection, and makes the accept of whoever saw it too wait for the next.
fn steal_and_block(listener: &TcpListener) {
    steal(listener);
    listener.set_nonblocking(false).unwrap();
}

/// Enrols a Pod that does `act` to the listener that it has kept, and sees that another Pod enrols
/// and is served meanwhile.
fn another_pod_is_served_beside(mode: Mode, act: fn(&TcpListener)) {
    let agent = Agent::with(mode, Vec::new());
    let (pod, other) = (PodNamespace::new(), PodNamespace::new());
    let (listener, _connection) = pod.loopback_at(match mode {
        Mode::Reown => 0,
        Mode::Plain => PORT,
    });
    let kept = agent.send("good-a", &[listener.as_fd()]);
    let nuisance = Nuisance::start(&listener, act);
    let address = listener.local_addr().unwrap();
    assert_eq!(agent.enrol("b", &other).0, Status::Ready);
    for _ in 0..20 {
        let _bait = pod.run(move || TcpStream::connect(address));
        assert_eq!(other.read(PORT), "b");
    }
    // Whoever was first at the connection: the Pod is told, and can enrol when it behaves.
    let _ = reply(&kept);
    drop((nuisance, listener));
    if mode == Mode::Reown {
        assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
        assert_eq!(pod.read(PORT), "a");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_steals_from_its_own_listener_delays_nobody_else() {
    another_pod_is_served_beside(Mode::Reown, steal);
    another_pod_is_served_beside(Mode::Plain, steal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_makes_accepts_block_delays_nobody_else() {
    another_pod_is_served_beside(Mode::Reown, steal_and_block);
    another_pod_is_served_beside(Mode::Plain, steal_and_block);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_with_a_filter_is_rejected() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    let (listener, _connection) = pod.loopback();
    if attach_filter(listener.as_fd()) {
        let (status, message) = agent.ask("good-a", &[listener.as_fd()]);
        assert_eq!(status, Status::Rejected);
        assert!(message.contains("filter"), "{message}");
        assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_with_linger_is_served_plainly_without_delay() {
    let (agent, pod) = (Agent::with(Mode::Plain, Vec::new()), PodNamespace::new());
    let (listener, _connection) = pod.loopback_at(PORT);
    sockopt::set_socket_linger(&listener, Some(Duration::from_secs(100))).unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(agent.ask("good-a", &[listener.as_fd()]).0, Status::Ready);
    for _ in 0..20 {
        assert_eq!(pod.read(PORT), "a");
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_linger_and_that_nobody_asked_for_lock_nobody_out() {
    let (agent, pod) = (Agent::start(), PodNamespace::new());
    // Closing one of these takes 100 s: its peer reads nothing of what has been written.
    let lingering = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
        let mut full = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (deaf, _) = listener.accept().unwrap();
        sockopt::set_socket_send_buffer_size(&full, 65_536).unwrap();
        full.set_nonblocking(true).unwrap();
        while full.write(&[0; 4096]).is_ok() {}
        sockopt::set_socket_linger(&full, Some(Duration::from_secs(100))).unwrap();
        (full, deaf)
    };
    // More of them than connections that the agent serves together, from whoever has no token.
    let deaf: Vec<_> = (0..130)
        .map(|_| {
            let (full, deaf) = lingering();
            let peer = agent.send("bad", &[full.as_fd()]);
            drop(full);
            assert_eq!(reply(&peer).0, Status::Rejected);
            deaf
        })
        .collect();
    assert_eq!(agent.enrol("a", &pod).0, Status::Ready);
    assert_eq!(pod.read(PORT), "a");
    drop(deaf);
}
