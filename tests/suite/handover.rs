//! Agents and keepers crash, end and take each other's place: what a Pod sees of it, which is
//! nothing, and how often the issuer is asked, which is once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use standin::{Behaviour, Part, Scope};
use tests::agent::Agent;
use tests::keeper::Keeper;
use tests::node::Node;
use tests::pod::Pod;
use tests::wait;

const SOON: Duration = Duration::from_secs(20);

/// The agent of the Pod `instance` with its metrics at `port`, started and not waited for.
fn start(node: &Node, instance: &str, port: u16) -> Agent {
    start_with(node, instance, port, &[])
}

/// The same with further flags.
fn start_with(node: &Node, instance: &str, port: u16, further: &[&str]) -> Agent {
    let admin = SocketAddr::from(([127, 0, 0, 1], port));
    let mut arguments = node.agent_arguments();
    let at = arguments.iter().position(|flag| flag == "--admin-listen");
    arguments[at.unwrap() + 1] = admin.to_string();
    arguments.extend(Keeper::arguments(node, instance));
    arguments.extend(further.iter().map(|&flag| flag.to_owned()));
    let agent = node.spawn_agent(&arguments).unwrap();
    agent.with_admin(node.namespace(), admin)
}

/// Waits until the keeper holds what the agent has in memory: what a crash before that loses is
/// exchanged again.
fn until_kept(agent: &Agent, identities: u64) {
    wait::until("the keeper has the credentials", SOON, || {
        agent.count("caios_agent_kept_identities") == identities
    })
    .unwrap();
}

fn is_linked(agent: &Agent) -> bool {
    agent.metric("caios_agent_keeper_connected").ok() == Some(1.0)
}

/// Asks for credentials again and again, as long as `work` runs, from every Pod. Everybody is answered;
/// returns how often.
fn asking_throughout(pods: &[Pod], work: impl FnOnce()) -> u64 {
    let ended = AtomicBool::new(false);
    let ask = |pod: &Pod| {
        let (mut answered, mut lost) = (0, Vec::new());
        while !ended.load(Ordering::Relaxed) {
            match pod.credentials() {
                Ok(answer) => {
                    assert_eq!(answer.status, 200, "{:?}", answer.body);
                    answered += 1;
                }
                Err(nobody) => lost.push(format!("{nobody:#}")),
            }
        }
        (answered, lost)
    };
    std::thread::scope(|scope| {
        let asking: Vec<_> = pods.iter().map(|pod| scope.spawn(|| ask(pod))).collect();
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        ended.store(true, Ordering::Relaxed);
        let (mut answered, mut lost) = (0, Vec::new());
        for asks in asking {
            let (some, others) = asks.join().unwrap();
            answered += some;
            lost.extend(others);
        }
        worked.unwrap();
        assert!(lost.is_empty(), "{answered} were answered, not {lost:?}");
        answered
    })
}

#[test]
fn a_crashed_agent_answers_again_with_the_same_keys_while_nobody_else_does() {
    let node = Node::new().unwrap();
    let _keeper = Keeper::spawn(&node, "a").unwrap();
    let agent = start(&node, "a", 9469).ready().unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let keys = pod.credentials().unwrap();
    assert_eq!(keys.status, 200);
    until_kept(&agent, 1);
    // Neither issuer nor CoreWeave is there when the next agent starts.
    node.stop(Part::Issuer);
    node.stop(Part::Api);
    agent.crash().unwrap();
    std::thread::scope(|scope| {
        // This request comes while no agent runs: it waits in the listener's backlog.
        let waiting = scope.spawn(|| pod.credentials());
        let agent = start(&node, "a", 9469).ready().unwrap();
        let answer = waiting.join().unwrap().unwrap();
        assert_eq!(
            (answer.status, &answer.body),
            (200, &keys.body),
            "{}",
            agent.log()
        );
        assert_eq!(agent.count("caios_agent_listeners_adopted_total"), 1);
        assert_eq!(agent.count("caios_agent_cached_identities"), 1);
    });
    assert_eq!(node.standin().calls().exchanges(), 1);
}

#[test]
fn what_an_agent_was_answering_when_it_was_killed_is_answered_by_the_next() {
    const ENOUGH: u64 = 10;
    let node = Node::new().unwrap();
    let _keeper = Keeper::spawn(&node, "a").unwrap();
    let mut agent = Some(start(&node, "a", 9469).ready().unwrap());
    let pods = ["train-0", "train-1", "train-2", "train-3"];
    let pods = pods.map(|name| node.enrolled_pod("trainer", name).unwrap());
    until_kept(agent.as_ref().unwrap(), 1);
    let mut taken_over = 0;
    asking_throughout(&pods, || {
        wait::until("enough was taken over", 3 * SOON, || {
            agent.take().unwrap().crash().unwrap();
            let next = agent.insert(start(&node, "a", 9469).ready().unwrap());
            taken_over += next.count("caios_agent_requests_taken_over_total");
            taken_over >= ENOUGH
        })
        .unwrap();
    });
    assert_eq!(node.standin().calls().exchanges(), 1);
}

#[test]
fn an_identity_to_which_post_is_refused_is_known_to_the_next_agent() {
    let node = Node::new().unwrap();
    let _keeper = Keeper::spawn(&node, "a").unwrap();
    node.standin()
        .behave(Scope::default(), Behaviour::RefusePost(403));
    let agent = start(&node, "a", 9469).ready().unwrap();
    let _pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(agent.count("caios_agent_short_lived_identities"), 1);
    until_kept(&agent, 1);
    agent.crash().unwrap();
    let agent = start(&node, "a", 9469).ready().unwrap();
    assert_eq!(agent.count("caios_agent_short_lived_identities"), 1);
    assert_eq!(node.standin().calls().exchanges(), 2, "POST, then GET");
}

#[test]
fn a_keeper_that_crashed_gets_everything_from_the_agent_again() {
    let node = Node::new().unwrap();
    let keeper = Keeper::spawn(&node, "a").unwrap();
    let agent = start(&node, "a", 9469).ready().unwrap();
    let pods = [("trainer", "train-0"), ("server", "serve-0")];
    let pods = pods.map(|(account, name)| node.enrolled_pod(account, name).unwrap());
    let mut next = None;
    let asked = asking_throughout(&pods, || {
        keeper.crash().unwrap();
        wait::until("the agent notices", SOON, || !is_linked(&agent)).unwrap();
        next = Some(Keeper::spawn(&node, "a").unwrap());
        wait::until("the agent finds the next one", SOON, || is_linked(&agent)).unwrap();
    });
    assert!(asked > 0);
    until_kept(&agent, 2);
    agent.crash().unwrap();
    let agent = start(&node, "a", 9469).ready().unwrap();
    assert_eq!(agent.count("caios_agent_listeners_adopted_total"), 2);
    for pod in &pods {
        assert_eq!(pod.credentials().unwrap().status, 200);
    }
    assert_eq!(node.standin().calls().exchanges(), 2);
    drop(next);
}

#[test]
fn an_upgrade_and_its_rollback_are_seen_by_no_pod_and_exchange_nothing() {
    let node = Node::new().unwrap();
    let mut keeper = Keeper::spawn(&node, "pod-0").unwrap();
    let mut agent = start(&node, "pod-0", 9469).ready().unwrap();
    let pods = [("trainer", "train-0"), ("server", "serve-0")];
    let pods = pods.map(|(account, name)| node.enrolled_pod(account, name).unwrap());
    let answers = asking_throughout(&pods, || {
        for (number, port) in [(1, 9470), (2, 9469)] {
            let instance = format!("pod-{number}");
            let next_keeper = Keeper::spawn(&node, &instance).unwrap();
            let next = start(&node, &instance, port).ready().unwrap();
            assert_eq!(next.count("caios_agent_listeners_adopted_total"), 2);
            keeper.ask_to_end().unwrap();
            assert_eq!(
                agent.terminate().unwrap().code(),
                Some(0),
                "{}",
                agent.log()
            );
            assert_eq!(keeper.ended().unwrap().code(), Some(0), "{}", keeper.log());
            (keeper, agent) = (next_keeper, next);
        }
    });
    assert!(answers > 0);
    // A Pod that comes after an upgrade finds the agent at the published socket.
    let late = node.enrolled_pod("trainer", "train-1").unwrap();
    assert_eq!(late.credentials().unwrap().status, 200);
    assert_eq!(node.standin().calls().exchanges(), 2);
}

#[test]
fn an_agent_that_must_end_first_serves_on_until_the_next_one_is_there() {
    let node = Node::new().unwrap();
    let mut keeper = Keeper::spawn(&node, "old").unwrap();
    let mut agent = start(&node, "old", 9469).ready().unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let mut next = None;
    let answers = asking_throughout(std::slice::from_ref(&pod), || {
        // As when the agent's Pod is deleted: the replacement starts afterwards.
        agent.ask_to_end().unwrap();
        keeper.ask_to_end().unwrap();
        let next_keeper = Keeper::spawn(&node, "new").unwrap();
        let next_agent = start(&node, "new", 9470).ready().unwrap();
        next = Some((next_keeper, next_agent));
        assert_eq!(agent.ended().unwrap().code(), Some(0), "{}", agent.log());
        assert_eq!(keeper.ended().unwrap().code(), Some(0), "{}", keeper.log());
        assert_eq!(pod.credentials().unwrap().status, 200);
    });
    assert!(answers > 0);
    assert_eq!(node.standin().calls().exchanges(), 1);
    drop(next);
}

#[test]
fn an_agent_that_watches_pods_waits_for_the_next_one_too_and_then_drains() {
    let node = Node::new().unwrap();
    let _keeper = Keeper::spawn(&node, "old").unwrap();
    // There is no API server, which is nothing to the agent; nobody comes in its place.
    let flags = ["--watch-pods=true", "--handover-timeout=2s"];
    let mut agent = start_with(&node, "old", 9469, &flags).ready().unwrap();
    let _pod = node.enrolled_pod("trainer", "train-0").unwrap();
    agent.ask_to_end().unwrap();
    // Not a request: were the agent dead, it would wait for the next one.
    assert_eq!(agent.ended().unwrap().code(), Some(0), "{}", agent.log());
    let log = agent.log();
    for step in ["serving on until", "no other agent has come", "\"drained\""] {
        assert!(log.contains(step), "{step}: {log}");
    }
}

#[test]
fn a_pod_that_ended_while_no_agent_ran_is_let_go() {
    let node = Node::new().unwrap();
    let _keeper = Keeper::spawn(&node, "a").unwrap();
    let agent = start(&node, "a", 9469).ready().unwrap();
    let gone = node.enrolled_pod("trainer", "train-0").unwrap();
    let stays = node.enrolled_pod("server", "serve-0").unwrap();
    until_kept(&agent, 2);
    agent.crash().unwrap();
    gone.remove_interface().unwrap();
    let agent = start(&node, "a", 9469).ready().unwrap();
    assert_eq!(agent.count("caios_agent_listeners_adopted_total"), 1);
    assert_eq!(agent.count("caios_agent_cached_identities"), 1);
    assert_eq!(stays.credentials().unwrap().status, 200);
    assert!(
        gone.credentials().is_err(),
        "the ended Pod's listener is still served"
    );
    agent.crash().unwrap();
    let agent = start(&node, "a", 9469).ready().unwrap();
    assert_eq!(agent.count("caios_agent_listeners_adopted_total"), 1);
    assert_eq!(
        agent.log().matches("has ended while").count(),
        1,
        "the keeper was not told"
    );
}
