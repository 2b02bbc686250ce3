//! Which tokens are accepted, and what is said to those whose are not.

use std::time::Duration;

use standin::Flaw;
use tests::http;
use tests::node::Node;
use tests::pod::Pod;
use tests::wait;

#[test]
fn a_bad_token_gets_the_right_status_and_a_message_that_helps_and_nothing_is_exchanged() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let other = node.pod("trainer", "train-1").unwrap();
    let issuer = node.standin();
    let good = node.token(&pod);
    let flawed = |flaw| node.mint(&good.clone().flaw(flaw));
    let exchanged = issuer.calls().exchanges();

    let mut cases: Vec<(&str, Option<String>, u16, &str)> = vec![
        ("none", None, 401, "token"),
        ("empty", Some(String::new()), 401, "token"),
        ("blank", Some("   ".to_owned()), 401, "token"),
        ("garbage", Some("not.a.token".to_owned()), 401, "token"),
        ("alg none", Some(flawed(Flaw::AlgNone)), 401, ""),
        (
            "HS256 with the public key",
            Some(flawed(Flaw::Hs256WithPublicKey)),
            401,
            "",
        ),
        ("wrong key", Some(flawed(Flaw::WrongKey)), 401, "signature"),
        (
            "wrong issuer",
            Some(flawed(Flaw::WrongIssuer)),
            401,
            "issuer",
        ),
        (
            "wrong audience",
            Some(flawed(Flaw::WrongAudience)),
            401,
            "audience",
        ),
        ("expired", Some(flawed(Flaw::Expired)), 401, "expired"),
        (
            "not yet valid",
            Some(flawed(Flaw::NotYetValid)),
            401,
            "valid",
        ),
        ("string exp", Some(flawed(Flaw::StringExp)), 401, "exp"),
        ("no Pod", Some(flawed(Flaw::NoPodClaim)), 403, "Pod"),
        (
            "another node",
            Some(node.mint(&good.clone().node("node-b"))),
            403,
            "node-b",
        ),
        ("another Pod", Some(other.token().unwrap()), 403, "Pod"),
        (
            "too long for a token",
            Some("x".repeat(20_000)),
            400,
            "at most",
        ),
    ];
    cases.push(("1 MB", Some("x".repeat(1_000_000)), 431, ""));
    for (name, token, status, helps) in cases {
        let answer = pod.ask(token.as_deref()).unwrap();
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert!(
            answer.body.to_lowercase().contains(&helps.to_lowercase()),
            "{name}: the message does not say `{helps}`: {}",
            answer.body
        );
        if let Some(token) = token.filter(|token| token.len() > 20) {
            assert!(
                !answer.body.contains(&token),
                "{name}: the message shows the token"
            );
        }
    }
    let request =
        b"GET /v1/credentials HTTP/1.1\r\nAuthorization: \xff\xfe\r\nConnection: close\r\n\r\n";
    let answer = pod
        .namespace()
        .run(http::send(Pod::listener(), request.to_vec()))
        .unwrap();
    assert_eq!(answer.status, 400, "not UTF-8: {answer:?}");

    assert_eq!(issuer.calls().exchanges(), exchanged);
    assert!(agent.count("caios_agent_tokens_verified_total{outcome=\"misplaced\"}") >= 3);
    assert_eq!(pod.credentials().unwrap().status, 200);
}

#[test]
fn a_token_is_accepted_raw_with_bearer_and_with_blanks_around() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let token = pod.token().unwrap();
    for form in [
        token.clone(),
        format!("Bearer {token}"),
        format!("bearer {token}"),
        format!("  {token}  "),
    ] {
        assert_eq!(pod.ask(Some(&form)).unwrap().status, 200);
    }
}

#[test]
fn both_algorithms_of_kubernetes_are_accepted() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    for algorithm in [standin::Algorithm::Rs256, standin::Algorithm::Es256] {
        let token = node.mint(&standin::TokenSpec {
            algorithm,
            ..node.token(&pod)
        });
        assert_eq!(pod.ask(Some(&token)).unwrap().status, 200, "{algorithm:?}");
    }
}

#[test]
fn a_rotation_of_the_issuers_keys_is_followed_and_the_old_key_ends() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let old = pod.token().unwrap();
    node.standin().rotate_keys(false).unwrap();
    let new = node.mint(&node.token(&pod));
    // A first unknown key may come within the bound on refetches after the start.
    wait::until("the new key is known", Duration::from_secs(20), || {
        pod.ask(Some(&new)).unwrap().status == 200
    })
    .unwrap();
    assert_eq!(pod.ask(Some(&old)).unwrap().status, 401, "{}", agent.log());
}
