//! Keys that come, go, and are away.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_at_its_first_token_and_a_withdrawn_one_ends_its_tokens() {
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    let node = Node::with_keys(&[&old], settings());
    let of_old = old.sign(&claims());
    node.verify(&of_old).await.unwrap();

    advance(Duration::from_secs(11)).await;
    node.file.replace(&key_set(&[&old, &new]));
    node.verify(&new.sign(&claims())).await.unwrap();
    node.verify(&of_old).await.unwrap();
    assert_eq!(node.loads(JwksOutcome::Success), 2);

    // A periodic load finds the old key gone.
    node.file.replace(&key_set(&[&new]));
    sleep(Duration::from_mins(6)).await;
    assert_eq!(node.loads(JwksOutcome::Success), 3);
    let (status, text) = message(node.verify(&of_old).await);
    assert_eq!(status, 401, "{text}");

    // The next one is found gone by the token of its successor, and at once.
    let of_new = new.sign(&claims());
    node.verify(&of_new).await.unwrap();
    advance(Duration::from_secs(11)).await;
    let newest = Signer::ec("newest");
    node.file.replace(&key_set(&[&newest]));
    node.verify(&newest.sign(&claims())).await.unwrap();
    assert_eq!(message(node.verify(&of_new).await).0, 401);
}

#[tokio::test(start_paused = true)]
async fn loads_that_change_nothing_leave_tokens_remembered() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims());
    node.verify(&token).await.unwrap();
    sleep(Duration::from_mins(30)).await;
    assert!(node.loads(JwksOutcome::Success) > 4);
    node.verify(&token).await.unwrap();
    assert_eq!(node.tokens(TokenOutcome::Verified), 1);
    assert_eq!(node.tokens(TokenOutcome::Remembered), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_costs_one_load_in_ten_seconds() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    node.verify(&signer.sign(&claims())).await.unwrap();
    advance(Duration::from_mins(1)).await;

    let started = Instant::now();
    for _ in 0..2 {
        let mut flood = JoinSet::new();
        for number in 0..500 {
            let mut stray = signer.clone();
            stray.id = format!("stray-{number}");
            let (token, verifier) = (stray.sign(&claims()), Arc::clone(&node.verifier));
            flood.spawn(async move { verifier.verify(Some(token.as_bytes()), None).await });
        }
        for result in flood.join_all().await {
            assert_eq!(message(result).0, 401);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(node.loads(JwksOutcome::Success), 2);
    assert_eq!(node.tokens(TokenOutcome::Rejected), 1000);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        node.loads(JwksOutcome::Success),
        2,
        "a wish was left behind"
    );
}

#[tokio::test(start_paused = true)]
async fn tokens_that_would_be_refused_anyway_make_no_load() {
    let (signer, stray) = (Signer::ec("e"), Signer::ec("stray"));
    let node = Node::with_keys(&[&signer], settings());
    node.verify(&signer.sign(&claims())).await.unwrap();
    advance(Duration::from_mins(1)).await;
    for claims in [
        claims_with("/iss", json!("https://other.example")),
        claims_with("/aud", json!("other")),
        claims_with("/exp", json!(START - 1)),
    ] {
        assert_eq!(message(node.verify(&stray.sign(&claims)).await).0, 401);
    }
    assert_eq!(node.loads(JwksOutcome::Success), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_does_not_cancel_the_load_it_asked_for() {
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    let node = Node::with_keys(&[&old], settings());
    node.verify(&old.sign(&claims())).await.unwrap();
    // The next load may start in one second: the caller is gone by then.
    advance(Duration::from_secs(9)).await;
    node.file.replace(&key_set(&[&old, &new]));
    let token = new.sign(&claims());
    let hasty = node.verify(&token);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), hasty)
            .await
            .is_err()
    );
    sleep(Duration::from_secs(2)).await;
    assert_eq!(node.loads(JwksOutcome::Success), 2);
    node.verify(&token).await.unwrap();
    assert_eq!(node.loads(JwksOutcome::Success), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_outlive_a_source_that_is_gone_or_talks_nonsense() {
    let (signer, stray) = (Signer::ec("e"), Signer::ec("stray"));
    let node = Node::with_keys(&[&signer], settings());
    node.verify(&signer.sign(&claims())).await.unwrap();
    for text in [None, Some("nonsense"), Some("{\"keys\":[]}"), Some("{}")] {
        match text {
            Some(text) => node.file.replace(text),
            None => node.file.remove(),
        }
        let failures = node.loads(JwksOutcome::Failure);
        sleep(Duration::from_hours(24)).await;
        assert!(node.loads(JwksOutcome::Failure) > failures + 200);
        assert!(node.verifier.has_keys());
        let now = node.clock.now().as_second();
        let fresh = claims_with("/exp", json!(now + 3600));
        node.verify(&signer.sign(&fresh)).await.unwrap();
        // Whether a new key is good cannot be told now: not the workload's fault.
        let (status, text) = message(node.verify(&stray.sign(&fresh)).await);
        assert_eq!(status, 503, "{text}");
    }
    assert_eq!(node.tokens(TokenOutcome::Unchecked), 4);
    assert_eq!(node.loads(JwksOutcome::Success), 1);
}

#[tokio::test(start_paused = true)]
async fn without_keys_callers_wait_two_seconds_and_are_told_why() {
    let signer = Signer::ec("e");
    let node = Node::start(KeyFile::absent(), settings());
    let token = signer.sign(&claims());
    let started = Instant::now();
    let error = node.verify(&token).await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 2);
    let Error::Unavailable {
        reason,
        retry_after,
    } = error
    else {
        panic!("{error:?}")
    };
    assert!(
        reason.contains("not loaded yet: reading ") && reason.contains("No such file"),
        "{reason}"
    );
    assert_eq!(retry_after, Duration::from_secs(2));
    assert!(!node.verifier.has_keys());

    // The back-off stays below a few seconds, so that a late source is found soon.
    sleep(Duration::from_mins(10)).await;
    node.file.replace(&key_set(&[&signer]));
    sleep(Duration::from_secs(6)).await;
    assert!(node.verifier.has_keys());
    node.verify(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_the_first_keys_is_answered_when_they_come() {
    let signer = Signer::ec("e");
    let node = Node::start(KeyFile::absent(), settings());
    let token = signer.sign(&claims());
    let (answer, ()) = tokio::join!(node.verify(&token), async {
        sleep(Duration::from_millis(300)).await;
        node.file.replace(&key_set(&[&signer]));
    });
    answer.unwrap();
}
