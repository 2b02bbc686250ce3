//! What the next agent of a node goes on with.

use jiff::SignedDuration;
use tokio::time::sleep;

use super::{MINUTE, SECOND};
use crate::cache::Saved;
use crate::cache::script::{Act, Node, unavailable};
use crate::metrics::Outcome;

/// What the cache of `node` hands on, as it is written.
fn saved(node: &Node) -> Vec<u8> {
    node.cache.save(|saved| serde_json::to_vec(saved)).unwrap()
}

/// Another agent of the same node, which starts with that.
fn restored(saved: &[u8]) -> Node {
    let next = Node::new();
    let saved: Saved<'_> = serde_json::from_slice(saved).unwrap();
    next.cache.restore(&saved, true);
    next
}

#[tokio::test(start_paused = true)]
async fn the_next_agent_serves_the_same_keys_and_renews_them_when_they_are_due() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    let first = node.ask(&pod).await.unwrap().credentials;
    let next = restored(&saved(&node));
    let served = next.ask(&pod).await.unwrap();
    assert_eq!(served.outcome, Outcome::Hit);
    assert_eq!(served.credentials.body(), first.body());
    sleep(160 * MINUTE).await;
    assert_eq!(next.script.count(), 0, "renewed before half life");
    sleep(40 * MINUTE).await;
    assert_eq!(next.script.count(), 1, "nobody asked, and it was renewed");
    next.expect(&pod, "KEY1", Outcome::Hit).await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_overdue_goes_on_as_the_retry_that_it_is() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    node.ask(&pod).await.unwrap();
    node.script.usually(Act::Fail(unavailable()));
    sleep(230 * MINUTE).await;
    assert!(node.script.count() > 2);
    let next = restored(&saved(&node));
    sleep(SECOND / 2).await;
    assert_eq!(
        next.script.count(),
        0,
        "a restart is no reason to ask at once"
    );
    sleep(2 * MINUTE).await;
    next.expect(&pod, "KEY1", Outcome::Hit).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_meanwhile_is_left_out() {
    let node = Node::new();
    node.script.usually(Act::Mint(900));
    let pod = node.pod_for("sa", "a", "short", 600);
    node.ask(&pod).await.unwrap();
    let saved = saved(&node);
    let next = Node::new();
    next.clock.step(SignedDuration::from_mins(16));
    let parsed: Saved<'_> = serde_json::from_slice(&saved).unwrap();
    next.cache.restore(&parsed, true);
    next.cache.observe();
    assert_eq!(next.metrics.cached_identities.get(), 0);
    next.expect(&next.pod("sa", "a"), "KEY1", Outcome::Miss)
        .await;
}

#[tokio::test(start_paused = true)]
async fn of_two_agents_the_key_that_lives_longer_counts_and_one_renews() {
    let (old, new) = (Node::new(), Node::new());
    // Both scripts number their keys from 1: the first one of the old agent is another's.
    old.ask(&old.pod("other", "b")).await.unwrap();
    let pod = old.pod("sa", "a");
    old.expect(&pod, "KEY2", Outcome::Miss).await;
    new.cache
        .restore(&serde_json::from_slice(&saved(&old)).unwrap(), true);
    old.cache.rest(true);
    sleep(200 * MINUTE).await;
    assert_eq!((old.script.count(), new.script.count()), (2, 2));
    let renewed = new.ask(&pod).await.unwrap().credentials;
    old.cache
        .restore(&serde_json::from_slice(&saved(&new)).unwrap(), false);
    assert_eq!(
        old.ask(&pod).await.unwrap().credentials.body(),
        renewed.body()
    );
    // The other way round changes nothing.
    new.cache
        .restore(&serde_json::from_slice(&saved(&old)).unwrap(), false);
    assert_eq!(
        new.ask(&pod).await.unwrap().credentials.body(),
        renewed.body()
    );
    // The new one is gone: the old one renews again.
    old.cache.rest(false);
    sleep(200 * MINUTE).await;
    assert_eq!(old.script.count(), 4);
}
