//! An issuer that says no.

use tokio::time::sleep;

use super::{MINUTE, MS, SECOND};
use crate::cache::script::{Act, Node, refused};
use crate::error::Error;
use crate::metrics::{Outcome, RenewalOutcome};

#[tokio::test(start_paused = true)]
async fn a_refused_principal_is_answered_at_once_and_remembered_for_seconds() {
    let node = Node::new();
    node.script.usually(Act::Fail(refused(403)));
    let tasks: Vec<_> = (0..10)
        .map(|i| node.spawn(&node.pod("sa", &format!("pod{i}"))))
        .collect();
    for task in tasks {
        let (result, elapsed) = task.await.unwrap();
        assert_eq!(
            result.unwrap_err(),
            Error::Forbidden("status 403".to_owned())
        );
        assert_eq!(elapsed, 100 * MS);
    }
    for _ in 0..4 {
        sleep(SECOND).await;
        let (result, elapsed) = node.spawn(&node.pod("sa", "newcomer")).await.unwrap();
        assert!(matches!(result, Err(Error::Forbidden(_))) && elapsed.is_zero());
    }
    assert_eq!(node.script.count(), 1);
    sleep(SECOND).await;
    node.script.usually(Act::Mint(900));
    node.expect(&node.pod("sa", "pod1"), "KEY1", Outcome::Miss)
        .await;
    assert_eq!(node.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_stands_for_itself_alone() {
    for status in [400, 401] {
        let node = Node::new();
        let old = node.pod_for("sa", "a", "old", 1000);
        node.script.usually(Act::Fail(refused(status)));
        for _ in 0..3 {
            assert!(matches!(node.ask(&old).await, Err(Error::Forbidden(_))));
        }
        assert_eq!(node.script.count(), 1);
        let other = node.pod_for("sa", "b", "other", 1000);
        assert!(matches!(node.ask(&other).await, Err(Error::Forbidden(_))));
        node.script.usually(Act::Mint(900));
        node.expect(&node.pod_for("sa", "a", "new", 2000), "KEY1", Outcome::Miss)
            .await;
        let tokens: Vec<_> = node
            .script
            .calls()
            .into_iter()
            .map(|call| call.token)
            .collect();
        assert_eq!(tokens, ["old", "other", "new"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_audience_does_not_cost_an_exchange_for_each_pod() {
    let node = Node::new();
    node.script.usually(Act::Fail(refused(401)));
    let tasks: Vec<_> = (0..200)
        .map(|i| node.spawn(&node.pod("sa", &format!("pod{i}"))))
        .collect();
    for task in tasks {
        let (result, elapsed) = task.await.unwrap();
        assert!(matches!(result, Err(Error::Forbidden(_))));
        assert!(elapsed < SECOND);
    }
    assert_eq!(node.script.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_takes_no_key_away_and_is_tried_with_another_pods_token() {
    let node = Node::new();
    let (a, b) = (
        node.pod_for("sa", "a", "a", 90_000),
        node.pod_for("sa", "b", "b", 80_000),
    );
    node.ask(&a).await.unwrap();
    node.ask(&b).await.unwrap();
    node.script.next([Act::Fail(refused(401))]);
    sleep(200 * MINUTE).await;
    let tokens: Vec<_> = node
        .script
        .calls()
        .into_iter()
        .map(|call| call.token)
        .collect();
    assert_eq!(tokens, ["a", "a", "b"]);
    assert!(node.script.gaps()[1] >= 10 * SECOND);
    node.expect(&a, "KEY2", Outcome::Hit).await;

    node.script.usually(Act::Fail(refused(403)));
    for _ in 0..350 {
        node.expect(&a, "KEY2", Outcome::Hit).await;
        sleep(MINUTE / 2).await;
    }
    assert!(node.metrics.renewals.of(RenewalOutcome::Kept).get() > 1);
}
