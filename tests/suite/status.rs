//! `caios-agent status`, as a person asks a node at night.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use shared::contract;
use tests::binaries;
use tests::node::Node;
use tests::pod::Pod;
use tests::wait;

fn status(node: &Node, further: &[&str]) -> Output {
    let mut command = Command::new(binaries::agent());
    command.arg("status").args(further).env_clear();
    command.env("CAIOS_AGENT_PRIVATE_DIRECTORY", node.private_directory());
    command.output().unwrap()
}

fn printed(node: &Node, further: &[&str]) -> String {
    let output = status(node, further);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

fn document(node: &Node) -> Value {
    serde_json::from_str(&printed(node, &["--json"])).unwrap()
}

/// A Pod that CoreWeave refuses, enrolled.
fn refused_pod(node: &Node) -> Pod {
    let pod = node.pod("outsider", "lost-0").unwrap();
    node.standin().revoke(&node.principal(&pod.identity));
    assert!(pod.enroll("30s").unwrap().status.success());
    pod
}

#[test]
fn identities_pods_and_problems_are_on_one_screen_and_nothing_secret_is() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let good = node.enrolled_pod("trainer", "train-0").unwrap();
    let refused = refused_pod(&node);
    let keys = good.credentials().unwrap().json();
    assert_eq!(refused.credentials().unwrap().status, 403);

    let shown = document(&node);
    assert_eq!(shown["node"], "node-a");
    assert_eq!(shown["readiness"][0]["holds"], true);
    assert_eq!(shown["issuer_keys"]["issuer"], node.standin().issuer_url());
    assert_eq!(shown["coreweave"]["breaker"], "closed");
    let identities = shown["identities"].as_array().unwrap();
    assert_eq!(identities.len(), 2, "{identities:?}");
    let (outsider, trainer) = (&identities[0], &identities[1]);
    assert_eq!(outsider["service_account"], "research/outsider");
    assert_eq!(outsider["key"], Value::Null);
    assert_eq!(outsider["failure"]["is_refusal"], true);
    assert_eq!(
        trainer["principal"],
        node.principal(&good.identity).as_str()
    );
    assert_eq!(trainer["key"]["expires_at"], keys["Expiration"]);
    assert_eq!(trainer["pods"], 1);
    assert!(trainer["next_exchange_at"].is_string());
    let pods = shown["pods"].as_array().unwrap();
    assert_eq!(pods.len(), 2, "{pods:?}");
    assert_eq!(pods[0]["name"], "lost-0");
    assert_eq!(pods[0]["last_error"]["status"], 403);
    assert_eq!(pods[1]["uid"], good.identity.uid.as_str());
    let listener = format!("127.0.0.1:{}", contract::DEFAULT_PORT);
    assert_eq!(pods[1]["listeners"][0], listener.as_str());
    assert_eq!(pods[1]["last_error"], Value::Null);

    let table = printed(&node, &[]);
    for said in [
        "on node-a: ready",
        "research/trainer",
        "research/train-0",
        "REFUSED",
        "! research/outsider: the exchange failed",
        "cwobject:CreateAccessKeyOIDC",
        "research/lost-0",
    ] {
        assert!(table.contains(said), "`{said}` is not in:\n{table}");
    }
    let canaries = [
        good.token().unwrap(),
        refused.token().unwrap(),
        keys["AccessKeyId"].as_str().unwrap().to_owned(),
        keys["SecretAccessKey"].as_str().unwrap().to_owned(),
    ];
    let all = format!("{table}{shown}");
    for canary in canaries {
        assert!(
            canary.len() > 8 && !all.contains(&canary),
            "a secret is shown"
        );
    }
}

#[test]
fn only_the_agents_own_user_may_ask() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let socket = node.private_directory().join(contract::ADMIN_SOCKET);
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(&node.private_directory()) & 0o007, 0);
    let public = std::fs::read_dir(node.public_directory()).unwrap();
    assert_eq!(public.count(), 2, "Pods see more than their two sockets");
}

#[test]
fn an_outage_is_told_with_how_long_it_goes_unnoticed() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&["--hold-limit", "1s"]).unwrap();
    let kept = node.enrolled_pod("trainer", "train-0").unwrap();
    node.stop_api();
    let cold = node.enrolled_pod("evaluator", "eval-0").unwrap();
    wait::until("the breaker opens", Duration::from_secs(30), || {
        let _ = cold.credentials();
        document(&node)["coreweave"]["breaker"] == "open"
    })
    .unwrap();
    assert_eq!(kept.credentials().unwrap().status, 200);
    let table = printed(&node, &[]);
    for said in [
        "BREAKER OPEN",
        "Pods whose keys are in memory notice nothing for 5h 59m",
        "! research/evaluator: the exchange failed",
        "its Pods wait, and then get 503",
    ] {
        assert!(table.contains(said), "`{said}` is not in:\n{table}");
    }
}

#[test]
fn pods_that_are_gone_are_not_shown() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&["--poll-interval", "1s"]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(document(&node)["pods"].as_array().unwrap().len(), 1);
    pod.remove_interface().unwrap();
    wait::until("the Pod is gone", Duration::from_secs(15), || {
        document(&node)["pods"] == serde_json::json!([])
    })
    .unwrap();
    assert_eq!(document(&node)["identities"], serde_json::json!([]));
}

#[test]
fn without_an_agent_it_says_where_to_look() {
    let node = Node::new().unwrap();
    let output = status(&node, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no agent answers on"), "{said}");
    assert!(said.contains("kubectl"), "{said}");
}
