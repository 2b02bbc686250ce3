//! First requests: many at once, hanging up, beyond the bounds.

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{MINUTE, MS, SECOND};
use crate::cache::Policy;
use crate::cache::script::{Act, Node, unavailable, uncertain};
use crate::error::Error;
use crate::metrics::Outcome;

#[tokio::test(start_paused = true)]
async fn a_thousand_first_requests_share_one_exchange() {
    let node = Node::new();
    let tasks: Vec<_> = (0..1000)
        .map(|i| node.spawn(&node.pod("sa", &format!("pod {}", i % 20))))
        .collect();
    sleep(50 * MS).await;
    assert_eq!(node.metrics.held_requests.get(), 1000);
    let mut misses = 0;
    for task in tasks {
        let (served, elapsed) = task.await.unwrap();
        let served = served.unwrap();
        assert_eq!(served.credentials.access_key_id(), "KEY1");
        assert_eq!(elapsed, 100 * MS);
        misses += usize::from(served.outcome == Outcome::Miss);
    }
    assert_eq!((misses, node.script.count()), (1, 1));
    assert_eq!(node.metrics.held_requests.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn callers_that_hang_up_end_no_exchange() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    let tasks: Vec<_> = (0..1000).map(|_| node.spawn(&pod)).collect();
    sleep(50 * MS).await;
    for task in tasks {
        task.abort();
    }
    sleep(10 * MS).await;
    assert_eq!(node.metrics.held_requests.get(), 0);
    node.expect(&pod, "KEY1", Outcome::Coalesced).await;
    node.expect(&pod, "KEY1", Outcome::Hit).await;
    assert_eq!(node.script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_all_callers_gave_up_on_still_come() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    node.script
        .next([Act::Fail(unavailable()), Act::Fail(unavailable())]);
    let task = node.spawn(&pod);
    sleep(50 * MS).await;
    task.abort();
    sleep(10 * SECOND).await;
    node.expect(&pod, "KEY1", Outcome::Hit).await;
    assert_eq!(node.script.count(), 3);
    assert!(
        node.script.gaps()[0] >= SECOND,
        "nobody waited: {:?}",
        node.script.gaps()
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_beyond_the_bound_is_not_held() {
    let node = Node::with(Policy {
        max_held_requests: 2,
        ..Policy::default()
    });
    let pod = node.pod("sa", "a");
    let held = [node.spawn(&pod), node.spawn(&pod)];
    sleep(MS).await;
    let asked = Instant::now();
    let error = node.ask(&pod).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(asked.elapsed().is_zero());
    for task in held {
        task.await.unwrap().0.unwrap();
    }
    node.expect(&pod, "KEY1", Outcome::Hit).await;
}

#[tokio::test(start_paused = true)]
async fn exchanges_in_flight_are_bounded_and_first_ones_are_not_paced() {
    let node = Node::new();
    node.script.takes(SECOND);
    let tasks: Vec<_> = (0..50)
        .map(|i| node.spawn(&node.pod(&format!("sa{i}"), &format!("pod{i}"))))
        .collect();
    for (second, calls) in [(0, 16), (1, 32), (2, 48), (3, 50)] {
        sleep(500 * MS).await;
        assert_eq!(node.script.count(), calls, "in second {second}");
        sleep(500 * MS).await;
    }
    for task in tasks {
        task.await.unwrap().0.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_exchange_wedges_nothing() {
    let node = Node::new();
    node.script.next([Act::Panic]);
    node.expect(&node.pod("sa", "a"), "KEY1", Outcome::Miss)
        .await;
    assert_eq!(node.script.count(), 2);
    assert!(
        node.script.gaps()[0] >= 5 * SECOND,
        "it may have minted a key"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_cache_takes_newcomers_and_drops_the_least_recently_used() {
    let node = Node::with(Policy {
        max_identities: 4,
        ..Policy::default()
    });
    let pods: Vec<_> = (0..20)
        .map(|i| node.pod(&format!("sa{i}"), &format!("pod{i}")))
        .collect();
    for pod in &pods {
        node.ask(pod).await.unwrap();
        node.cache.0.identities.run_pending_tasks();
        assert_eq!(node.ask(pod).await.unwrap().outcome, Outcome::Hit);
    }
    node.cache.observe();
    assert_eq!(node.metrics.cached_identities.get(), 4);
    sleep(5 * 60 * MINUTE).await;
    assert_eq!(
        node.script.count(),
        20 + 4,
        "who was dropped is not renewed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_error_is_not_asked_again_at_once_even_for_who_waits() {
    let node = Node::new();
    node.script.next([Act::Fail(uncertain())]);
    node.expect(&node.pod("sa", "a"), "KEY1", Outcome::Miss)
        .await;
    let gap = node.script.gaps()[0];
    assert!(gap >= 5 * SECOND && gap <= 6 * SECOND + 200 * MS, "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_work_and_answers_who_waits() {
    let node = Node::new();
    let pod = node.pod("sa", "a");
    node.ask(&pod).await.unwrap();
    node.script.takes(MINUTE);
    let shutdown = CancellationToken::new();
    let keep = tokio::spawn({
        let (cache, shutdown) = (node.cache.clone(), shutdown.clone());
        async move { cache.keep(shutdown).await }
    });
    let held = node.spawn(&node.pod("other", "b"));
    sleep(MS).await;
    assert_eq!(node.metrics.cached_identities.get(), 1);
    shutdown.cancel();
    keep.await.unwrap();
    let (result, elapsed) = held.await.unwrap();
    assert!(matches!(result, Err(Error::Unavailable { .. })));
    assert!(elapsed < SECOND);
    node.expect(&pod, "KEY1", Outcome::Hit).await;
    sleep(5 * 60 * MINUTE).await;
    assert_eq!(node.script.count(), 2);
    let left = node.metrics.seconds_until_first_expiry.get();
    assert!(left > 21_598.0 && left <= 21_600.0, "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_on_several_threads_makes_one_exchange_per_identity() {
    let node = Node::new();
    let tasks: Vec<_> = (0..2000)
        .map(|i| node.spawn(&node.pod(&format!("sa{}", i % 10), &format!("pod{i}"))))
        .collect();
    for (i, task) in tasks.into_iter().enumerate() {
        if i % 3 == 0 {
            task.abort();
            let _ = task.await;
        } else {
            task.await.unwrap().0.unwrap();
        }
    }
    assert_eq!(node.script.count(), 10);
    assert_eq!(node.metrics.held_requests.get(), 0);
    for i in 0..2000 {
        node.cache
            .forget(&node.pod("sa", &format!("pod{i}")).pod.uid);
    }
    node.cache.observe();
    assert_eq!(node.metrics.cached_identities.get(), 0);
}
