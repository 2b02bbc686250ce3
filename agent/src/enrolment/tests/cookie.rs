//! What is told by the cookies of network namespaces, which kernels before 5.14 have not. The kernel
//! tests leave these out there.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_of_the_agents_own_namespace_is_rejected() {
    let agent = Agent::start();
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let (status, message) = agent.ask("good-a", &[own.as_fd()]);
    assert_eq!(status, Status::Rejected, "{message}");
    assert!(
        message.contains("agent's own network namespace"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sandbox_replaces_the_old_and_a_foreign_namespace_is_rejected() {
    let agent = Agent::start();
    let (old, new) = (PodNamespace::new(), PodNamespace::new());
    assert_eq!(agent.enrol("a", &old).0, Status::Ready);
    assert_eq!(agent.enrol("a", &new).0, Status::Ready);
    assert_eq!(agent.count(EnrolmentOutcome::Replaced), 1);
    assert_eq!(new.read(PORT), "a");
    assert_eq!((agent.registry.len(), agent.listeners()), (1, 1));
    let (status, message) = agent.enrol("b", &new);
    assert_eq!(status, Status::Rejected, "{message}");
    assert!(message.contains("another Pod"), "{message}");
    old.until_refused(PORT);
}
