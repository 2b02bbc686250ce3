//! The clock of the node, and what time does to tokens.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forth_refuses_tokens_while_it_is_wrong_and_no_longer() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims());
    node.verify(&token).await.unwrap();
    node.clock.step(SignedDuration::from_hours(1));
    let (status, text) = message(node.verify(&token).await);
    assert_eq!(status, 401);
    assert!(text.contains("expired at"), "{text}");
    node.clock.step(SignedDuration::from_hours(-1));
    node.verify(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_from_the_start_refuses_tokens_until_it_is_set() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims_with("/nbf", json!(START + 3600)));
    let token = &token;
    let (status, text) = message(node.verify(token).await);
    assert_eq!(status, 401);
    assert!(text.contains("not valid before"), "{text}");
    node.clock.step(SignedDuration::from_mins(59));
    node.verify(token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_takes_nothing_from_a_pod() {
    let (signer, next) = (Signer::ec("e"), Signer::ec("next"));
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims());
    node.verify(&token).await.unwrap();
    node.clock.step(SignedDuration::from_hours(-1));
    sleep(SWEEP_INTERVAL * 2).await;
    node.verify(&token).await.unwrap();
    assert_eq!(node.tokens(TokenOutcome::Remembered), 1);
    // Nor by a new token of the API server, whose clock is right, and when all are verified again.
    let new = claims_with("/nbf", json!(START + 120));
    node.verify(&signer.sign(&new)).await.unwrap();
    node.file.replace(&key_set(&[&signer, &next]));
    sleep(Duration::from_mins(10)).await;
    assert_eq!(node.loads(JwksOutcome::Success), 3);
    node.verify(&token).await.unwrap();
    assert_eq!(node.tokens(TokenOutcome::Remembered), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_takes_nothing_from_the_next_agent() {
    let signer = Signer::ec("e");
    let (file, token) = (KeyFile::absent(), signer.sign(&claims()));
    file.replace(&key_set(&[&signer]));
    let next = Node::start_at(START - 3600, file, settings());
    assert_eq!(message(next.verify(&token).await).0, 401);
    let before = Timestamp::from_second(START).unwrap();
    next.verifier.restore_furthest(before);
    next.verify(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_is_slow_accepts_a_new_token_within_the_leeway() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let from = |second: i64| signer.sign(&claims_with("/nbf", json!(second)));
    node.verify(&from(START + 60)).await.unwrap();
    assert_eq!(message(node.verify(&from(START + 61)).await).0, 401);
}

#[tokio::test(start_paused = true)]
async fn a_remembered_token_is_refused_from_the_second_it_expires_and_then_forgotten() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims());
    node.verify(&token).await.unwrap();
    advance(Duration::from_secs(3599)).await;
    node.verify(&token).await.unwrap();
    assert_eq!(node.tokens(TokenOutcome::Remembered), 1);
    advance(Duration::from_secs(1)).await;
    assert_eq!(message(node.verify(&token).await).0, 401);
    sleep(SWEEP_INTERVAL * 2).await;
    assert_eq!(node.verifier.memo.len(), 0);
}

#[tokio::test(start_paused = true)]
#[expect(
    clippy::disallowed_methods,
    reason = "other threads are waited for, whose time is the real one"
)]
async fn the_tokens_of_a_pod_that_has_ended_leave_memory_and_no_other_pods_do() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let of = |uid: &str| signer.sign(&claims_with("/kubernetes.io/pod/uid", json!(uid)));
    let (ended, lives) = (of("ended"), of("lives"));
    let token = node.verify(&ended).await.unwrap().token.clone();
    node.verify(&lives).await.unwrap();
    node.verifier.forget(&PodUid::new("ended"));
    node.verifier.observe();
    assert_eq!(node.metrics.remembered_tokens.get(), 1);
    node.verify(&lives).await.unwrap();
    assert_eq!(node.tokens(TokenOutcome::Remembered), 1);
    // moka frees what is removed when no thread can still be reading it.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while token.holders() > 1 {
        assert!(std::time::Instant::now() < deadline, "it is still held");
        node.verifier.observe();
        std::thread::yield_now();
    }
    // A request that was on its way when its Pod ended.
    node.verify(&ended).await.unwrap();
    assert_eq!(node.tokens(TokenOutcome::Verified), 3);
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_tokens_is_bounded() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(
        &[&signer],
        Settings {
            memo_capacity: 8,
            ..settings()
        },
    );
    for number in 0..100 {
        let token = signer.sign(&claims_with("/jti", json!(number)));
        node.verify(&token).await.unwrap();
    }
    assert!(node.verifier.memo.len() <= 8);
}
