//! What is played on every kernel.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use shared::contract;
use tests::agent::ADMIN;
use tests::daemon::{Daemon, ensure_without_capability};
use tests::guest::AGENT_TESTS;
use tests::keeper::Keeper;
use tests::node::Node;
use tests::pod::Pod;
use tests::relay::Relay;
use tests::{http, wait};

use crate::{clock, machine};

/// What may take long on a machine that is computed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The first kernel whose network namespaces have cookies.
const NAMESPACE_COOKIES: (u32, u32) = (5, 14);

/// Plays on the one node of the machine, with Pods of its own ServiceAccount, and ends well or says
/// what went wrong.
type Scenario = fn(Daemon<'_>) -> anyhow::Result<()>;

/// Every scenario, in order. No agent runs when one begins.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    (
        "descriptors that Pods hand over, good and hostile",
        descriptors,
    ),
    ("a listener that the agent makes its own", reown),
    ("a listener that is served as it is", plain),
    ("a new sandbox of a Pod", sandbox),
    (
        "listeners and keys over a crash and an upgrade of the agent",
        handover,
    ),
    ("a relay over a restart of the agent", relay),
    ("a clock that jumps by an hour", clock::jumps),
];

/// The agent's own tests of what it does to descriptors.
fn descriptors(_: Daemon<'_>) -> anyhow::Result<()> {
    let mut tests = Command::new(AGENT_TESTS);
    tests.args(["enrolment::", "--test-threads", "4"]);
    if machine::release()? < NAMESPACE_COOKIES {
        tests.args(["--skip", "::cookie::"]);
    }
    let status = tests
        .status()
        .with_context(|| format!("failed to start {AGENT_TESTS}"))?;
    ensure!(status.success(), "the tests ended with {status}");
    Ok(())
}

/// Enrolment, requests on both loopback addresses, and the end of the Pod, all without privilege.
fn reown(daemon: Daemon<'_>) -> anyhow::Result<()> {
    let node = daemon.node();
    let agent = daemon.agent(&["--poll-interval", "1s"])?;
    ensure_without_capability(agent.id())?;
    let pod = node.pod("reown", "reown-0")?;
    for _ in 0..2 {
        succeeded(&pod.enroll("30s")?)?;
    }
    served(&pod)?;
    let (token, address) = (pod.token()?, (Ipv6Addr::LOCALHOST, contract::DEFAULT_PORT));
    let asked = pod.namespace().run(async move {
        let address = SocketAddr::from(address);
        http::get(address, contract::CREDENTIALS_PATH, Some(&token)).await
    })?;
    ensure!(asked.status == 200, "on [::1]: {asked:?}");
    let bound = pod.namespace().call(|| TcpListener::bind(Pod::listener()));
    ensure!(bound.is_err(), "the Pod could listen on the agent's port");
    let exchanges = exchanges(node, &pod);
    ensure!(exchanges == 1, "{exchanges} exchanges");
    pod.remove_interface()?;
    wait::until("the listener is closed", PATIENCE, || {
        pod.credentials().is_err()
    })?;
    ensure!(
        agent.count("caios_agent_panics_total") == 0,
        "the agent panicked"
    );
    Ok(())
}

/// The second way to take a listener, for kernels where the first fails.
fn plain(daemon: Daemon<'_>) -> anyhow::Result<()> {
    let node = daemon.node();
    let _agent = daemon.agent(&["--enrolment-mode", "plain"])?;
    let pod = node.pod("plain", "plain-0")?;
    for _ in 0..2 {
        succeeded(&pod.enroll_with("30s", &["--mode", "plain"])?)?;
    }
    for _ in 0..3 {
        served(&pod)?;
    }
    Ok(())
}

/// A Pod whose sandbox was lost: the runtime takes the old interface away, then comes the new one.
fn sandbox(daemon: Daemon<'_>) -> anyhow::Result<()> {
    let node = daemon.node();
    let _agent = daemon.agent(&[])?;
    let old = node.enrolled_pod("sandbox", "sandbox-0")?;
    old.remove_interface()?;
    let new = node.sandbox(&old)?;
    succeeded(&new.enroll("30s")?)?;
    served(&new)?;
    Ok(())
}

/// The keeper holds what a crashed agent had, and the next keeper takes it over.
fn handover(daemon: Daemon<'_>) -> anyhow::Result<()> {
    let node = daemon.node();
    let agent = |instance, admin| {
        let [flag, socket] = Keeper::CONTAINED;
        daemon.agent_at(admin, &[flag, socket, "--instance", instance])
    };
    let mut keeper = Keeper::contained(daemon, "old")?;
    let first = agent("old", ADMIN)?;
    let pod = node.enrolled_pod("handover", "handover-0")?;
    let keys = served(&pod)?;
    wait::until("the keeper has the keys", PATIENCE, || {
        first.count("caios_agent_kept_identities") >= 1
    })?;
    first.crash()?;
    let mut second = agent("old", ADMIN)?;
    ensure!(served(&pod)? == keys, "other keys after a crash");

    let _next_keeper = Keeper::contained(daemon, "new")?;
    let third = agent("new", "127.0.0.1:9470")?;
    keeper.ask_to_end()?;
    let ended = second.terminate()?;
    ensure!(ended.success(), "the old agent ended with {ended}");
    let ended = keeper.ended()?;
    ensure!(ended.success(), "the old keeper ended with {ended}");
    ensure!(served(&pod)? == keys, "other keys after an upgrade");
    let adopted = third.count("caios_agent_listeners_adopted_total");
    ensure!(adopted == 1, "{adopted} listeners taken over");
    let exchanges = exchanges(node, &pod);
    ensure!(exchanges == 1, "{exchanges} exchanges");
    Ok(())
}

/// A Pod that cannot pass descriptors.
fn relay(daemon: Daemon<'_>) -> anyhow::Result<()> {
    let node = daemon.node();
    let pod = node.pod("relay", "relay-0")?;
    let first = daemon.agent(&[])?;
    let relay = Relay::start(node, &pod)?;
    served(&pod)?;
    drop(first);
    let _second = daemon.agent(&[])?;
    served(&pod)?;
    relay.ask_to_end()?;
    let (code, said) = relay.ended()?;
    ensure!(code == Some(0), "the relay ended with {code:?}: {said}");
    Ok(())
}

/// That `caios-enroll` succeeded.
pub(crate) fn succeeded(enrolled: &Output) -> anyhow::Result<()> {
    let said = String::from_utf8_lossy(&enrolled.stderr);
    ensure!(
        enrolled.status.success(),
        "caios-enroll ended with {}: {said}",
        enrolled.status
    );
    Ok(())
}

/// The body of the answer to a request on the Pod's listener.
pub(crate) fn served(pod: &Pod) -> anyhow::Result<String> {
    let answer = pod.credentials()?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.body)
}

/// How often the Pod's ServiceAccount was exchanged.
pub(crate) fn exchanges(node: &Node, pod: &Pod) -> usize {
    let subject = node.token(pod).subject();
    node.standin().calls().exchanges_of(&subject)
}
