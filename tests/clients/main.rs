//! Unmodified S3 clients inside Pods, against an S3 server that checks signatures. Not part of plain
//! `cargo test`: it needs what `tests/tools/fetch.sh` installs, and `make test` runs it.

#![cfg(test)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use standin::{Addressing, Behaviour, Endpoint, Scope};
use tests::binaries;
use tests::node::Node;
use tests::pod::Pod;
use tests::relay::Relay;

/// A second audience, for enrolling a Pod without an exchange of the identity under test.
const ENROLMENT_AUDIENCE: &str = "enrolment";

/// Runs one client inside a Pod; the JSON line that it prints.
fn run(pod: &Pod, client: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/run.sh");
    let mut command: Command = pod.command(script);
    command
        .arg(client)
        .args(arguments)
        .envs(environment.iter().copied());
    if client == "rust" {
        command.env("RUST_CLIENT", binaries::rust_client());
    }
    let output = pod.output(command).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{client}: {}; is it installed? tests/tools/fetch.sh installs it\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&printed).unwrap_or(Value::Null)
}

/// Asserts that all S3 requests of the Pod were signed with keys of its principal and succeeded.
fn assert_signed(node: &Node, pod: &Pod, client: &str) {
    let principal = node.principal(&pod.identity);
    let requests = node.standin().s3_requests();
    let unsigned: Vec<_> = requests.iter().filter(|request| !request.signed).collect();
    assert!(
        unsigned.is_empty(),
        "{client} sent unsigned requests: {unsigned:?}"
    );
    let of_pod: Vec<_> = requests
        .iter()
        .filter(|request| request.principal.as_deref() == Some(&principal))
        .collect();
    assert!(!of_pod.is_empty(), "{client} sent nothing: {requests:?}");
}

/// One call of one client, with the keys of an enrolled Pod.
fn reads_an_object(client: &str) {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod(client, client).unwrap();
    run(&pod, client, &[], &[]);
    assert_signed(&node, &pod, client);
    assert_eq!(node.standin().calls().exchanges(), 1);
}

/// An enrolled Pod whose identity has no credentials yet: it enrolled for another audience.
fn cold_pod(node: &Node, service_account: &str, name: &str) -> Pod {
    let pod = node.pod(service_account, name).unwrap();
    let spec = node.token(&pod);
    let enrolling = standin::TokenSpec {
        audiences: Vec::new(),
        ..spec.clone()
    };
    let enrolling = node.mint(&enrolling.audience(ENROLMENT_AUDIENCE));
    pod.put_token(&enrolling).unwrap();
    assert!(pod.enroll("30s").unwrap().status.success());
    pod.put_token(&node.mint(&spec)).unwrap();
    pod
}

/// The first exchange of an identity takes long: the client's first call succeeds all the same.
fn survives_a_slow_first_exchange(client: &str) {
    let node = Node::new().unwrap();
    node.standin()
        .register(node.standin().issuer_url(), ENROLMENT_AUDIENCE);
    let _agent = node.agent(&["--audience", ENROLMENT_AUDIENCE]).unwrap();
    for milliseconds in [900, 1500, 3000, 5000] {
        let name = format!("{client}-{milliseconds}");
        let pod = cold_pod(&node, &name, &name);
        let scope = Scope {
            identity: Some(node.token(&pod).subject()),
            ..Scope::default()
        };
        let delay = Behaviour::Delay(Duration::from_millis(milliseconds));
        node.standin().behave(scope, delay);
        node.standin().reset_calls();
        run(&pod, client, &[], &[]);
        assert_signed(&node, &pod, client);
        assert_eq!(node.standin().calls().exchanges(), 1, "{name}");
    }
}

/// Tests of one kind, one for each client that is named.
macro_rules! each {
    ($kind:ident: $($test:ident = $client:literal,)+) => {
        mod $kind {
            $(#[test] fn $test() { super::$kind($client); })+
        }
    };
}

each! { reads_an_object:
    boto3 = "boto3",
    s3fs = "s3fs",
    pyarrow = "pyarrow",
    obstore = "obstore",
    javascript_v3 = "js",
    go_v2 = "go",
    minio_go = "minio",
    java_v2 = "java",
    rust = "rust",
}

each! { survives_a_slow_first_exchange:
    boto3 = "boto3",
    pyarrow = "pyarrow",
    javascript_v3 = "js",
    go_v2 = "go",
    minio_go = "minio",
    java_v2 = "java",
}

/// One call of one client in a Pod that cannot pass descriptors.
fn reads_an_object_through_the_relay(client: &str) {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.pod(client, client).unwrap();
    let _relay = Relay::start(&node, &pod).unwrap();
    run(&pod, client, &[], &[]);
    assert_signed(&node, &pod, client);
    assert_eq!(node.standin().calls().exchanges(), 1);
}

each! { reads_an_object_through_the_relay:
    boto3 = "boto3",
    minio_go = "minio",
    java_v2 = "java",
}

#[test]
fn the_aws_cli_lists_buckets() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("cli", "cli").unwrap();
    let listed = run(&pod, "aws", &["s3api", "list-buckets"], &[]);
    assert_eq!(listed["Buckets"][0]["Name"], "data", "{listed}");
    assert_signed(&node, &pod, "aws");
}

#[test]
fn virtual_host_addressing_works_as_coreweave_requires_it() {
    let node = Node::new().unwrap();
    let _agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("virtual", "virtual").unwrap();
    run(&pod, "boto3", &[], &[("S3_ADDRESSING", "virtual")]);
    assert_signed(&node, &pod, "boto3");
    let requests = node.standin().s3_requests();
    assert!(
        requests
            .iter()
            .all(|r| r.addressing == Addressing::VirtualHost),
        "{requests:?}"
    );
}

#[test]
fn twenty_four_processes_of_three_pods_from_cold_make_two_exchanges_and_no_error() {
    let node = Node::new().unwrap();
    let agent = node.agent(&["--audience", ENROLMENT_AUDIENCE]).unwrap();
    node.standin()
        .register(node.standin().issuer_url(), ENROLMENT_AUDIENCE);
    let pods = [
        ("trainer", "train-0"),
        ("trainer", "train-1"),
        ("evaluator", "eval-0"),
    ]
    .map(|(service_account, name)| cold_pod(&node, service_account, name));
    node.standin().reset_calls();
    let delay = Behaviour::Delay(Duration::from_millis(120));
    node.standin().behave(Scope::default(), delay);
    let lines = std::thread::scope(|scope| {
        let running: Vec<_> = pods
            .iter()
            .map(|pod| {
                scope.spawn(|| run(pod, "storm", &["--processes", "8", "--gets", "25"], &[]))
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    for line in &lines {
        assert_eq!(
            (line["calls"].as_u64(), line["errors"].as_u64()),
            (Some(200), Some(0))
        );
        assert_eq!(line["retries"], 0, "{line}");
    }
    assert_eq!(node.standin().calls().exchanges(), 2);
    let unavailable = "caios_agent_requests_total{outcome=\"unavailable\"}";
    assert_eq!(agent.count(unavailable), 0);
}

#[test]
fn boto3_with_fifteen_minute_keys_asks_once_a_call_and_always_hits() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    node.standin()
        .behave(Scope::default(), Behaviour::RefusePost(403));
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    run(&pod, "boto3", &[], &[("CLIENT_CALLS", "200")]);
    let hits = agent
        .metric("caios_agent_requests_total{outcome=\"hit\"}")
        .unwrap();
    assert!((200.0..=202.0).contains(&hits), "{hits} hits for 200 calls");
    for outcome in ["miss", "coalesced", "unavailable"] {
        let series = format!("caios_agent_requests_total{{outcome=\"{outcome}\"}}");
        assert_eq!(agent.count(&series), 0, "{outcome}");
    }
    let calls = node.standin().calls();
    assert_eq!(
        (calls.count(Endpoint::Post), calls.count(Endpoint::Get)),
        (1, 1)
    );
}
