//! `caios-agent check-config`, as an admin and the chart's tests use it.

use std::process::{Command, Output};

use tests::binaries;
use tests::node::Node;

fn check_config(arguments: &[String]) -> Output {
    let mut command = Command::new(binaries::agent());
    command.arg("check-config").args(arguments);
    command.output().unwrap()
}

#[test]
fn a_good_configuration_is_printed_with_exit_code_0_and_nothing_is_bound() {
    let node = Node::new().unwrap();
    let output = check_config(&node.agent_arguments());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    for shown in [node.standin().org_id(), "--hold-limit", "8s", "default"] {
        assert!(printed.contains(shown), "{shown} is not in:\n{printed}");
    }
    let bound = std::fs::read_dir(node.public_directory()).unwrap();
    assert_eq!(bound.count(), 0);
}

#[test]
fn a_bad_configuration_is_reported_whole_with_exit_code_64() {
    let output = check_config(&["--hold-limit=never", "--max-pods=0"].map(str::to_owned));
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    for problem in ["--hold-limit", "--max-pods", "--org-id"] {
        assert!(said.contains(problem), "{problem} is not in:\n{said}");
    }
    assert!(output.stdout.is_empty());
}
