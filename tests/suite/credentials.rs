//! What a workload gets, and how many exchanges it took.

use std::time::Duration;

use shared::contract;
use standin::{Behaviour, Endpoint, ExpiryForm, Scope};
use tests::http::{self, Answer};
use tests::node::Node;
use tests::wait;
use tokio::io::AsyncWriteExt as _;

#[test]
fn pods_of_one_service_account_share_one_exchange() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let pods = [
        ("trainer", "train-0"),
        ("trainer", "train-1"),
        ("evaluator", "eval-0"),
    ]
    .map(|(service_account, name)| node.enrolled_pod(service_account, name).unwrap());
    let keys = pods.each_ref().map(|pod| pod.credentials().unwrap());
    assert!(keys.iter().all(|answer| answer.status == 200), "{keys:?}");
    assert_eq!(keys[0].body, keys[1].body);
    assert_ne!(keys[0].body, keys[2].body);
    assert_eq!(node.standin().calls().exchanges(), 2);
    assert_eq!(
        agent.count("caios_agent_requests_total{outcome=\"hit\"}"),
        3
    );
    assert_eq!(agent.count("caios_agent_cached_identities"), 2);
}

#[test]
fn the_answer_is_the_one_that_every_sdk_parses() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let answer = pod.credentials().unwrap();
    assert_eq!(
        answer.header("content-length"),
        Some(answer.body.len().to_string().as_str())
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let json = answer.json();
    let members = json.as_object().unwrap();
    assert_eq!(members.len(), 4);
    assert_eq!(members["Token"], "");
    let expiration = members["Expiration"].as_str().unwrap();
    assert_eq!(
        expiration.len(),
        "2026-11-23T15:00:00Z".len(),
        "{expiration}"
    );
    assert!(expiration.ends_with('Z'));
    assert!(!members["AccessKeyId"].as_str().unwrap().is_empty());
    assert!(!members["SecretAccessKey"].as_str().unwrap().is_empty());
}

#[test]
fn an_expiry_in_any_form_and_a_session_token_reach_the_sdk_as_it_reads_them() {
    for (name, behaviour) in [
        ("fraction", Behaviour::Expiry(ExpiryForm::Fraction)),
        ("offset", Behaviour::Expiry(ExpiryForm::Offset)),
        ("token", Behaviour::WithSessionToken),
    ] {
        let node = Node::new().unwrap();
        let _agent = node.agent(&[]).unwrap();
        if name == "token" {
            // Session tokens come with the GET form alone.
            node.standin()
                .behave(Scope::default(), Behaviour::RefusePost(403));
        }
        node.standin().behave(Scope::default(), behaviour);
        let pod = node.enrolled_pod("trainer", "train-0").unwrap();
        let json = pod.credentials().unwrap().json();
        let expiration = json["Expiration"].as_str().unwrap();
        assert_eq!(
            expiration.len(),
            "2026-11-23T15:00:00Z".len(),
            "{name}: {expiration}"
        );
        assert_eq!(
            json["Token"].as_str().unwrap().is_empty(),
            name != "token",
            "{name}"
        );
    }
}

#[test]
fn a_thousand_first_requests_make_one_exchange_also_when_the_first_hang_up() {
    let node = Node::new().unwrap();
    let agent = node
        .agent(&["--max-connections-per-listener", "2000"])
        .unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    node.standin().behave(
        Scope::default(),
        Behaviour::Delay(Duration::from_millis(1500)),
    );
    let socket = node.public_directory().join(contract::AGENT_SOCKET);
    let token = pod.token().unwrap();
    let answers: Vec<Answer> = node.namespace().run(async move {
        let path = contract::CREDENTIALS_PATH;
        for _ in 0..100 {
            let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
            stream
                .write_all(http::request(path, Some(&token)).as_bytes())
                .await
                .unwrap();
        }
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..900 {
            let (socket, token) = (socket.clone(), token.clone());
            asked.spawn(async move { http::get_unix(&socket, path, Some(&token)).await.unwrap() });
        }
        asked.join_all().await
    });
    assert_eq!(answers.len(), 900);
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{:?}",
        answers[0]
    );
    assert_eq!(node.standin().calls().exchanges(), 1);
    assert_eq!(agent.count("caios_agent_panics_total"), 0);
}

#[test]
fn fifteen_minute_keys_are_served_from_memory_when_post_is_refused() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    node.standin()
        .behave(Scope::default(), Behaviour::RefusePost(403));
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    for _ in 0..50 {
        assert_eq!(pod.credentials().unwrap().status, 200);
    }
    let calls = node.standin().calls();
    assert_eq!(
        (calls.count(Endpoint::Post), calls.count(Endpoint::Get)),
        (1, 1)
    );
    assert_eq!(agent.count("caios_agent_short_lived_identities"), 1);
    let log = agent.log();
    assert!(log.contains("15 minutes"), "no line says so:\n{log}");
}

#[test]
fn a_refusal_says_who_is_refused_and_what_to_grant() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let principal = node.principal(&pod.identity);
    node.standin().revoke(&principal);
    let enrolled = pod.enroll("30s").unwrap();
    assert!(
        enrolled.status.success(),
        "a refusing CoreWeave must hold no Pod"
    );
    let said = String::from_utf8(enrolled.stderr).unwrap();
    assert!(
        said.contains(&principal),
        "caios-enroll does not say who is refused: {said}"
    );
    let answer = pod.credentials().unwrap();
    assert_eq!(answer.status, 403);
    let json = answer.json();
    for name in ["code", "message", "Code", "Message"] {
        assert!(json[name].is_string(), "`{name}` is missing: {json}");
    }
    let message = json["message"].as_str().unwrap();
    assert!(message.contains(&principal), "{message}");
    assert!(
        message.contains("cwobject:CreateAccessKeyOIDC"),
        "{message}"
    );

    node.standin()
        .grant(&principal, &["cwobject:CreateAccessKeyOIDC"]);
    wait::until("the grant is noticed", Duration::from_secs(15), || {
        pod.credentials().unwrap().status == 200
    })
    .unwrap();
}

#[test]
fn a_key_that_arrives_expired_is_never_served() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&["--hold-limit", "2s"]).unwrap();
    node.standin()
        .behave(Scope::default(), Behaviour::AlreadyExpired);
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let answer = pod.credentials().unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    assert!(
        answer.json()["message"]
            .as_str()
            .unwrap()
            .contains("expire"),
        "{answer:?}"
    );
}

#[test]
fn what_is_no_credential_request_gets_404_or_405() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (
            "POST /v1/credentials HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            405,
        ),
        ("GET /v1/credentials HTTP/1.0\r\n\r\n", 401),
    ] {
        let answer = pod
            .namespace()
            .run(http::send(
                tests::pod::Pod::listener(),
                request.as_bytes().to_vec(),
            ))
            .unwrap();
        assert_eq!(answer.status, status, "{request}");
    }
}
