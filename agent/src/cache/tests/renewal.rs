//! Renewals, tokens that change, Pods that end, clocks that step.

use jiff::SignedDuration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{MINUTE, MS, SECOND};
use crate::cache::script::{Act, HOUR, Node, unavailable};
use crate::error::Error;
use crate::metrics::{Outcome, RenewalOutcome};

#[tokio::test(start_paused = true)]
async fn fifteen_minute_keys_are_renewed_once_per_half_life_whatever_is_asked() {
    let node = Node::new();
    node.script.usually(Act::Mint(900));
    let pod = node.pod("sa", "a");
    node.ask(&pod).await.unwrap();
    let started = Instant::now();
    while started.elapsed() < 120 * MINUTE {
        assert_eq!(node.ask(&pod).await.unwrap().outcome, Outcome::Hit);
        sleep(3 * SECOND).await;
    }
    let gaps = node.script.gaps();
    let half_life = 405 * SECOND..=496 * SECOND;
    assert!(gaps.iter().all(|gap| half_life.contains(gap)), "{gaps:?}");
    let renewed = node.metrics.renewals.of(RenewalOutcome::Renewed).get();
    assert_eq!(usize::try_from(renewed).unwrap(), gaps.len());
}

#[tokio::test(start_paused = true)]
async fn an_idle_identity_is_renewed_at_half_life() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    node.ask(&pod).await.unwrap();
    sleep(199 * MINUTE).await;
    assert!(node.script.gaps()[0] >= 162 * MINUTE);
    node.expect(&pod, "KEY2", Outcome::Hit).await;
    assert_eq!(node.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn renewals_use_the_newest_token() {
    let node = Node::new();
    node.ask(&node.pod_for("sa", "a", "first", HOUR))
        .await
        .unwrap();
    node.ask(&node.pod_for("sa", "b", "other", 5 * HOUR))
        .await
        .unwrap();
    sleep(50 * MINUTE).await;
    node.ask(&node.pod_for("sa", "a", "rotated", 5 * HOUR))
        .await
        .unwrap();
    sleep(150 * MINUTE).await;
    let tokens: Vec<_> = node
        .script
        .calls()
        .into_iter()
        .map(|call| call.token)
        .collect();
    assert_eq!(tokens, ["first", "rotated"]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_a_token_waits_for_the_next_one() {
    let node = Node::new();
    node.ask(&node.pod_for("sa", "a", "first", HOUR))
        .await
        .unwrap();
    sleep(300 * MINUTE).await;
    assert_eq!(node.script.count(), 1);
    assert_eq!(node.metrics.renewals.of(RenewalOutcome::NoToken).get(), 1);
    // Whose Pods are idle wakes nobody: its key expires unused.
    node.cache.observe();
    assert_eq!(node.metrics.cached_identities.get(), 1);
    assert!(node.metrics.seconds_until_first_expiry.get().is_nan());
    let fresh = node.pod_for("sa", "a", "fresh", HOUR);
    node.expect(&fresh, "KEY1", Outcome::Hit).await;
    sleep(200 * MS).await;
    node.expect(&fresh, "KEY2", Outcome::Hit).await;
    assert_eq!(node.script.calls()[1].token, "fresh");
    node.cache.observe();
    assert!(node.metrics.seconds_until_first_expiry.get() > 3600.0);
}

#[tokio::test(start_paused = true)]
async fn the_last_pod_of_an_identity_takes_its_credentials_along() {
    let node = Node::new();
    let (a, b) = (node.pod("sa", "a"), node.pod("sa", "b"));
    node.ask(&a).await.unwrap();
    node.expect(&b, "KEY1", Outcome::Hit).await;
    node.cache.forget(&a.pod.uid);
    sleep(200 * MINUTE).await;
    assert_eq!(node.script.calls()[1].token, "token of b");
    node.cache.forget(&b.pod.uid);
    node.cache.observe();
    assert_eq!(node.metrics.cached_identities.get(), 0);
    assert!(node.metrics.seconds_until_first_expiry.get().is_nan());
    sleep(24 * 60 * MINUTE).await;
    assert_eq!(node.script.count(), 2);
    assert_eq!(node.cache.0.flights.len(), 0, "no task is left");
    node.expect(&b, "KEY3", Outcome::Miss).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ends_during_its_exchange_leaves_no_credentials() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    let held = node.spawn(&pod);
    sleep(50 * MS).await;
    node.cache.forget(&pod.pod.uid);
    assert!(held.await.unwrap().0.is_err());
    sleep(MINUTE).await;
    node.cache.observe();
    assert_eq!(node.metrics.cached_identities.get(), 0);
    assert_eq!(node.cache.0.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_identity_ends_by_itself_with_its_last_token_and_key() {
    let node = Node::new();
    node.ask(&node.pod_for("sa", "a", "short", HOUR))
        .await
        .unwrap();
    sleep(6 * 60 * MINUTE + SECOND).await;
    node.cache.0.identities.run_pending_tasks();
    assert_eq!(node.cache.0.identities.entry_count(), 0);
    assert_eq!(node.cache.0.flights.len(), 0);
    assert_eq!(node.script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_keeps_no_dead_key_alive() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    node.script.usually(Act::Fail(unavailable()));
    node.script.next([Act::Mint(900)]);
    node.expect(&pod, "KEY1", Outcome::Miss).await;
    sleep(14 * MINUTE).await;
    node.clock.step(SignedDuration::from_hours(-1));
    node.expect(&pod, "KEY1", Outcome::Hit).await;
    sleep(MINUTE).await;
    assert!(matches!(
        node.ask(&pod).await,
        Err(Error::Unavailable { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_forth_ends_keys_early_and_once() {
    let node = Node::new();
    node.script.next([Act::Mint(900), Act::Mint(6 * HOUR)]);
    let (short, long) = (node.pod("short", "a"), node.pod("long", "b"));
    node.expect(&short, "KEY1", Outcome::Miss).await;
    node.expect(&long, "KEY2", Outcome::Miss).await;
    node.clock.step(SignedDuration::from_hours(1));
    node.expect(&short, "KEY3", Outcome::Miss).await;
    node.expect(&long, "KEY2", Outcome::Hit).await;
    node.clock.step(SignedDuration::from_hours(-1));
    node.expect(&short, "KEY3", Outcome::Hit).await;
    node.expect(&long, "KEY2", Outcome::Hit).await;
    assert_eq!(node.script.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_forth_renews_before_the_key_ends_by_it() {
    let node = Node::new();
    let (cache, shutdown) = (node.cache.clone(), CancellationToken::new());
    let _end = shutdown.clone().drop_guard();
    tokio::spawn(async move { cache.keep(shutdown).await });
    let pod = node.pod("sa", "a");
    node.expect(&pod, "KEY1", Outcome::Miss).await;
    sleep(MINUTE).await;
    node.clock.step(SignedDuration::from_hours(4));
    node.expect(&pod, "KEY1", Outcome::Hit).await;
    sleep(MINUTE).await;
    node.expect(&pod, "KEY2", Outcome::Hit).await;
    sleep(150 * MINUTE).await;
    node.expect(&pod, "KEY2", Outcome::Hit).await;
    assert_eq!(node.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_arrives_expired_is_never_served_and_says_why() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    node.script.next([Act::MintDead]);
    node.expect(&pod, "KEY2", Outcome::Miss).await;
    assert!(node.script.gaps()[0] >= 5 * SECOND);

    node.script.usually(Act::MintDead);
    let error = node.ask(&node.pod("other", "b")).await.unwrap_err();
    assert!(error.to_string().contains("compare the two"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_yields_a_shorter_life_does_not_take_the_longer_one() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    node.ask(&pod).await.unwrap();
    node.script.usually(Act::Mint(900));
    sleep(200 * MINUTE).await;
    assert!(node.script.count() >= 2);
    node.expect(&pod, "KEY1", Outcome::Hit).await;
    sleep(170 * MINUTE).await;
    assert_eq!(node.ask(&pod).await.unwrap().outcome, Outcome::Hit);
}
