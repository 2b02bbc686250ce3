//! `caios-agent check`, run in a Pod as an SDK would be: each step that works, and each that does not
//! with its exit code and what to do.

use std::process::Command;
use std::time::Duration;

use standin::{Addressing, Behaviour, Flaw, Scope};
use tests::binaries;
use tests::node::Node;
use tests::pod::Pod;

/// What it printed, and its exit code.
fn check(pod: &Pod, change: impl FnOnce(&mut Command)) -> (String, i32) {
    let mut command = pod.command(binaries::agent());
    command.arg("check");
    change(&mut command);
    let output = pod.output(command).unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    let token = pod.token().unwrap_or_default();
    assert!(
        token.is_empty() || !text.contains(token.trim()),
        "the token is printed"
    );
    (text, output.status.code().unwrap())
}

fn same(_: &mut Command) {}

/// Expects a first failure with this code and these words.
fn fails(pod: &Pod, change: impl FnOnce(&mut Command), code: i32, words: &[&str]) -> String {
    let (text, ended) = check(pod, change);
    assert_eq!(ended, code, "{text}");
    for words in words {
        assert!(text.contains(words), "`{words}` is not in:\n{text}");
    }
    assert!(text.contains("do: "), "{text}");
    text
}

#[test]
fn everything_that_works_is_said_and_s3_has_seen_a_good_signature() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let keys = pod.credentials().unwrap().json();
    let (text, code) = check(&pod, same);
    assert_eq!(code, 0, "{text}");
    for words in [
        "ok    environment  AWS_CONTAINER_CREDENTIALS_FULL_URI is http://127.0.0.1:27169/v1/credentials",
        "ok    token        the token of system:serviceaccount:research:trainer",
        "ok    endpoint     HTTP 200 after",
        "ok    credentials  good until",
        "lists 1 buckets",
        "What an SDK does here works.",
    ] {
        assert!(text.contains(words), "`{words}` is not in:\n{text}");
    }
    for member in ["AccessKeyId", "SecretAccessKey"] {
        assert!(
            !text.contains(keys[member].as_str().unwrap()),
            "{member} is printed"
        );
    }
    let asked = node.standin().s3_requests();
    let [request] = asked.as_slice() else {
        panic!("not one request: {asked:?}");
    };
    assert_eq!((request.status, request.method.as_str()), (200, "GET"));
    assert!(request.signed && request.bucket.is_empty());
    assert_eq!(
        request.security_token, None,
        "an empty session token is not sent"
    );
    assert_eq!(request.addressing, Addressing::Path);
}

#[test]
fn a_session_token_is_signed_and_sent_to_s3() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let behaviours = [Behaviour::RefusePost(403), Behaviour::WithSessionToken];
    for behaviour in behaviours {
        node.standin().behave(Scope::default(), behaviour);
    }
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let (text, code) = check(&pod, same);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("note  credentials  so short a life"),
        "{text}"
    );
    assert_eq!(node.standin().s3_requests()[0].security_token, Some(true));
}

#[test]
fn s3_is_not_asked_without_an_endpoint_and_a_refusal_names_the_action_and_the_principal() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let (text, code) = check(&pod, |command| {
        command.env_remove("AWS_ENDPOINT_URL_S3");
    });
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("skip  s3"), "{text}");
    assert!(node.standin().s3_requests().is_empty());

    let principal = node.principal(&pod.identity);
    node.standin().revoke(&principal);
    let grant = format!("grant `s3:ListAllMyBuckets` to `{principal}`");
    fails(&pod, same, 76, &["HTTP 403: AccessDenied", &grant]);
    fails(
        &pod,
        |command| {
            command.args(["--endpoint", "http://127.0.0.1:1"]);
        },
        76,
        &["no answer from http://127.0.0.1:1"],
    );
}

#[test]
fn a_container_that_was_not_injected_is_told_so() {
    let node = Node::new().unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let bare = |command: &mut Command| {
        command.env_clear();
    };
    let text = fails(&pod, bare, 78, &["caios.coreweave.com/inject"]);
    assert!(text.contains("skip  endpoint"), "{text}");
    let elsewhere = |command: &mut Command| {
        let url = "https://api.coreweave.com/v1/cwobject/temporary-credentials/oidc/org";
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    };
    fails(&pod, elsewhere, 78, &["not this node's agent"]);
}

#[test]
fn what_wins_over_the_agent_fails_the_check_and_the_other_steps_go_on() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let shadowed = |command: &mut Command| {
        command.env("AWS_PROFILE", "default");
    };
    let text = fails(
        &pod,
        shadowed,
        78,
        &["AWS_PROFILE is set", "remove AWS_PROFILE"],
    );
    assert!(text.contains("ok    credentials"), "{text}");
}

#[test]
fn a_token_that_cannot_be_used_is_told_with_the_reason() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let good = pod.token().unwrap();
    let audience = |command: &mut Command| {
        command.args(["--audience", "https://somebody.else"]);
    };
    fails(
        &pod,
        audience,
        66,
        &["https://somebody.else", "caios.coreweave.com/audience"],
    );
    pod.put_token(&format!("{good}\n")).unwrap();
    fails(&pod, same, 66, &["ends with a line break"]);
    pod.put_token(&node.mint(&node.token(&pod).flaw(Flaw::Expired)))
        .unwrap();
    fails(&pod, same, 66, &["the token expired at"]);
    std::fs::remove_file(pod.token_file()).unwrap();
    fails(&pod, same, 66, &["failed to read"]);
}

#[test]
fn nobody_who_listens_and_a_refusing_agent_are_told_apart() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    fails(&pod, same, 69, &["no answer", "caios-enroll"]);
    let principal = node.principal(&pod.identity);
    node.standin().revoke(&principal);
    assert!(pod.enroll("30s").unwrap().status.success());
    fails(&pod, same, 77, &["HTTP 403", &principal, "grant"]);
    let token = node.mint(&node.token(&pod).flaw(Flaw::WrongAudience));
    pod.put_token(&token).unwrap();
    fails(&pod, same, 77, &["HTTP 401", "audience"]);
}

#[test]
fn a_slow_first_answer_is_noted() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.pod("trainer", "train-0").unwrap();
    let slow = Behaviour::Delay(Duration::from_secs(4));
    node.standin().behave(Scope::default(), slow);
    assert!(pod.enroll("30s").unwrap().status.success());
    let (text, code) = check(&pod, same);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("note  endpoint     the SDKs of Java and C++"),
        "{text}"
    );
}
