//! Planted secrets are searched in everything the agent emits, at the most talkative level.

use std::process::Command;

use standin::{Behaviour, Scope};
use tests::binaries;
use tests::node::Node;
use tests::wait;

#[test]
fn no_token_and_no_key_is_ever_shown() {
    let node = Node::new().unwrap();
    let mut agent = node.agent(&["--log", "trace"]).unwrap();
    node.standin()
        .behave(Scope::default(), Behaviour::RefusePost(403));
    node.standin()
        .behave(Scope::default(), Behaviour::WithSessionToken);
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    let token = pod.token().unwrap();
    let keys = pod.credentials().unwrap().json();
    let refused = node.mint(&node.token(&pod).flaw(standin::Flaw::Expired));
    assert_eq!(pod.ask(Some(&refused)).unwrap().status, 401);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let mut canaries = vec![
        token.clone(),
        head.to_owned(),
        signature.to_owned(),
        refused,
    ];
    for member in ["SecretAccessKey", "Token"] {
        let canary = keys[member].as_str().unwrap().to_owned();
        assert!(canary.len() > 8, "`{member}` is no canary");
        canaries.push(canary);
    }

    let process = format!("/proc/{}", agent.id());
    let mut emitted = vec![
        ("metrics", agent.admin("/metrics").unwrap().body),
        ("readyz", agent.admin("/readyz").unwrap().body),
        ("status", status(&node)),
        ("cmdline", read_lossy(&format!("{process}/cmdline"))),
        ("environ", read_lossy(&format!("{process}/environ"))),
    ];
    let limits = read_lossy(&format!("{process}/limits"));
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_ascii_whitespace().nth(4),
        Some("0"),
        "core dumps are on: {core}"
    );

    assert!(agent.terminate().unwrap().success());
    wait::until(
        "the log is written",
        std::time::Duration::from_secs(5),
        || agent.log().contains("exchange"),
    )
    .unwrap();
    emitted.push(("log", agent.log()));
    for (place, text) in &emitted {
        for canary in &canaries {
            assert!(
                !text.contains(canary.as_str()),
                "a secret is in the agent's {place}"
            );
        }
    }
    let log = &emitted.last().unwrap().1;
    assert!(
        log.contains("TRACE") || log.contains("\"level\":\"TRACE\""),
        "the log has no trace"
    );
}

/// What `caios-agent status` prints, in both forms.
fn status(node: &Node) -> String {
    let printed = [&[][..], &["--json"]].map(|form| {
        let mut command = Command::new(binaries::agent());
        command.arg("status").args(form);
        command.env("CAIOS_AGENT_PRIVATE_DIRECTORY", node.private_directory());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    });
    printed.concat()
}

fn read_lossy(path: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}
