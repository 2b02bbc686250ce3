//! An issuer that does not answer, throttles, or comes back.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{MINUTE, MS, SECOND};
use crate::cache::script::{Act, Call, Node, throttled, unavailable, uncertain};
use crate::error::Error;
use crate::exchange::ExchangeError;
use crate::metrics::{Outcome, RenewalOutcome};

/// From just after an exchange until long after its key has expired.
async fn live_through(error: ExchangeError, takes: Duration, most_calls: usize) {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    let started = Instant::now();
    node.expect(&pod, "KEY1", Outcome::Miss).await;
    node.script.usually(Act::Fail(error.clone()));
    node.script.takes(takes);
    while started.elapsed() + SECOND < 6 * 60 * MINUTE {
        node.expect(&pod, "KEY1", Outcome::Hit).await;
        sleep(7 * SECOND).await;
    }
    let renewals = node.script.count() - 1;
    assert!(
        renewals >= 2 && renewals <= most_calls,
        "{error:?}: {renewals} renewals"
    );
    let kept = node.metrics.renewals.of(RenewalOutcome::Kept).get();
    assert!(kept >= 2, "{error:?}: {kept} kept");

    sleep_until(started + 6 * 60 * MINUTE + 10 * SECOND).await;
    for _ in 0..3 {
        let (result, elapsed) = node.spawn(&pod).await.unwrap();
        let Err(Error::Unavailable {
            reason,
            retry_after,
        }) = result
        else {
            panic!("{error:?}: {result:?}");
        };
        assert!(
            (8 * SECOND..8 * SECOND + 2 * MS).contains(&elapsed),
            "{elapsed:?}"
        );
        assert!(
            retry_after >= SECOND && reason.contains(&error.to_string()),
            "{reason}"
        );
    }

    let held: Vec<_> = (0..20).map(|_| node.spawn(&pod)).collect();
    sleep(SECOND).await;
    node.script.usually(Act::Mint(900));
    node.script.takes(100 * MS);
    let calls = node.script.count();
    for task in held {
        let served = task.await.unwrap().0.unwrap();
        assert_eq!(served.credentials.access_key_id(), "KEY2");
    }
    assert_eq!(node.script.count(), calls + 1, "{error:?}");
    assert_eq!(node.metrics.exchange_breaker_open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_issuer_is_not_noticed_until_the_key_expires() {
    live_through(unavailable(), 20 * MS, 240).await;
}

#[tokio::test(start_paused = true)]
async fn a_hanging_issuer_is_not_noticed_until_the_key_expires() {
    live_through(uncertain(), 2 * SECOND, 60).await;
}

#[tokio::test(start_paused = true)]
async fn server_errors_are_not_noticed_until_the_key_expires() {
    live_through(uncertain(), 20 * MS, 60).await;
}

#[tokio::test(start_paused = true)]
async fn a_throttling_issuer_is_not_noticed_until_the_key_expires() {
    live_through(throttled(2), 20 * MS, 6000).await;
}

#[tokio::test(start_paused = true)]
async fn recovery_answers_all_who_wait_without_a_burst() {
    let node = Node::new();
    node.script.usually(Act::Fail(unavailable()));
    node.script.takes(20 * MS);
    let tasks: Vec<_> = (0..50)
        .map(|i| node.spawn(&node.pod(&format!("sa{i}"), &format!("pod{i}"))))
        .collect();
    sleep(3 * SECOND).await;
    assert_eq!(node.metrics.exchange_breaker_open.get(), 1);
    let before = node.script.count();
    assert!(before <= 16 + 4, "{before} calls while nothing answered");
    node.script.usually(Act::Mint(3600));
    for task in tasks {
        task.await.unwrap().0.unwrap();
    }
    let calls: Vec<_> = node.script.calls().into_iter().skip(before).collect();
    assert_eq!(calls.len(), 50);
    for first in &calls {
        let within = |call: &&Call| (first.at..first.at + SECOND).contains(&call.at);
        assert!(calls.iter().filter(within).count() <= 1 + 8 + 16);
    }
    assert_eq!(node.metrics.exchange_breaker_open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_lets_one_probe_a_second_through_for_who_waits() {
    let node = Node::new();
    node.script.usually(Act::Fail(unavailable()));
    node.script.takes(Duration::ZERO);
    let tasks: Vec<_> = (0..10)
        .map(|i| node.spawn(&node.pod(&format!("sa{i}"), &format!("pod{i}"))))
        .collect();
    for task in tasks {
        assert!(matches!(
            task.await.unwrap().0,
            Err(Error::Unavailable { .. })
        ));
    }
    let calls = node.script.calls();
    let probes = calls.iter().filter(|call| call.at >= SECOND).count();
    assert!(
        (6..=8).contains(&probes),
        "{probes} probes in 7 s: {calls:?}"
    );
    sleep(MINUTE).await;
    let idle = node.script.count() - calls.len();
    assert!(
        (3..=5).contains(&idle),
        "{idle} probes in a minute in which nobody waits"
    );
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_for_who_waits() {
    let node = Node::new();
    node.script.next([Act::Fail(throttled(5))]);
    node.expect(&node.pod("sa", "a"), "KEY1", Outcome::Miss)
        .await;
    let gap = node.script.gaps()[0];
    assert!(gap >= 5 * SECOND && gap <= 6 * SECOND + 200 * MS, "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn throttling_pauses_the_renewals_of_all_but_not_the_first_requests_of_others() {
    let node = Node::new();
    node.script.usually(Act::Mint(900));
    for i in 0..10 {
        node.ask(&node.pod(&format!("sa{i}"), &format!("pod{i}")))
            .await
            .unwrap();
    }
    sleep(400 * SECOND).await;
    assert_eq!(node.script.count(), 10);
    node.script.next([Act::Fail(throttled(150))]);
    let throttled = node.spawn(&node.pod("throttled", "t"));
    sleep(SECOND).await;
    let until = node.script.calls()[10].at + 150 * SECOND;
    node.expect(&node.pod("other", "o"), "KEY11", Outcome::Miss)
        .await;
    assert!(throttled.await.unwrap().0.is_err());
    sleep(400 * SECOND).await;
    let renewals = node.script.calls().split_off(12);
    assert!(renewals.len() >= 10);
    assert!(renewals.iter().all(|call| call.at >= until), "{renewals:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_an_outage_outlived_is_fetched_before_anyone_asks() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    node.ask(&pod).await.unwrap();
    node.script.usually(Act::Fail(unavailable()));
    sleep(7 * 60 * MINUTE).await;
    node.script.usually(Act::Mint(3600));
    sleep(7 * MINUTE).await;
    node.expect(&pod, "KEY2", Outcome::Hit).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_exchange_that_hangs_is_tried_again_while_its_request_is_held() {
    let node = Node::new();
    node.script.takes(6 * SECOND);
    node.script.next([Act::Fail(uncertain())]);
    let held = node.spawn(&node.pod("sa", "a"));
    sleep(6 * SECOND).await;
    node.script.takes(100 * MS);
    let (result, elapsed) = held.await.unwrap();
    assert!(result.is_ok(), "{result:?}");
    assert!(elapsed < 8 * SECOND, "{elapsed:?}");
    assert_eq!(node.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn throttling_without_a_pause_makes_no_loop() {
    let node = Node::new();
    node.script.usually(Act::Fail(throttled(0)));
    assert!(node.ask(&node.pod("sa", "a")).await.is_err());
    assert!(node.script.count() <= 9, "{:?}", node.script.gaps());
    sleep(60 * MINUTE).await;
    assert!(node.script.count() <= 80, "{}", node.script.count());
}
