//! The documentation names what is there, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tests::binaries;
use tests::node::Node;

const README: &str = include_str!("../../README.md");
const VALUES: &str = include_str!("../../helm/values.yaml");
const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");

/// A section of README, up to the next heading of its level or above.
fn section(heading: &str) -> &'static str {
    let level = &heading[..=heading.find(' ').unwrap()];
    let section = README.split(&format!("\n{heading}\n")).nth(1).unwrap();
    let section = section.split(&format!("\n{level}")).next().unwrap();
    section.split("\n## ").next().unwrap()
}

/// The metrics that a table in README names.
fn documented_metrics(heading: &str) -> BTreeSet<String> {
    section(heading)
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned()))
        .collect()
}

#[test]
fn every_metric_of_the_agent_is_documented_and_every_documented_one_is_there() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let exported: BTreeSet<String> = agent
        .admin("/metrics")
        .unwrap()
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE caios_agent_")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(exported, documented_metrics("### Agent"));
}

#[test]
fn every_metric_of_the_injector_is_documented_and_every_documented_one_is_there() {
    let registry = prometheus::Registry::new();
    injector::metrics::Metrics::new(&registry).unwrap();
    let families = registry.gather();
    let exported: BTreeSet<String> = families
        .iter()
        .map(|family| family.name().strip_prefix("caios_injector_").unwrap())
        .map(str::to_owned)
        .collect();
    assert_eq!(exported, documented_metrics("### Injector"));
}

/// What a program says about its flags.
fn help(program: &Path, words: &[&str]) -> String {
    let help = Command::new(program).args(words).output().unwrap();
    assert!(help.status.success());
    String::from_utf8([help.stdout, help.stderr].concat()).unwrap()
}

#[test]
fn every_flag_that_the_documents_name_is_there() {
    let ours = [
        help(&binaries::agent(), &["run", "--help"]),
        help(&binaries::agent(), &["prepare", "--help"]),
        help(&binaries::agent(), &["status", "--help"]),
        help(&binaries::agent(), &["check", "--help"]),
        help(&binaries::agent(), &["csi", "--help"]),
        help(&binaries::injector(), &["run", "--help"]),
        help(&binaries::enroll(), &["--help"]),
        help(&binaries::enroll(), &["relay", "--help"]),
    ]
    .concat();
    let others = ["--help", "--user", "--set", "--create-namespace", "--force"];
    let mut named = 0;
    for line in README.lines().chain(ARCHITECTURE.lines()) {
        let codes = line.split('`').skip(1).step_by(2);
        for flag in codes.filter_map(|code| code.split([' ', '=']).next()) {
            if flag.starts_with("--") && !others.contains(&flag) {
                named += 1;
                assert!(
                    ours.contains(flag),
                    "`{flag}` is documented, but no program has it"
                );
            }
        }
    }
    assert!(named > 10, "the documents name only {named} flags");
}

#[test]
fn every_value_that_the_readme_names_is_in_the_chart_with_its_default() {
    let values: Value = serde_saphyr::from_str(VALUES).unwrap();
    let mut named = 0;
    for row in section("## Values").lines() {
        let Some(row) = row.strip_prefix("| `") else {
            continue;
        };
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let path = cells[0].trim_end_matches('`');
        let pointer = format!("/{}", path.replace('.', "/"));
        let value = values
            .pointer(&pointer)
            .unwrap_or_else(|| panic!("the chart has no value `{path}`"));
        let documented = match cells[1].trim_matches('`') {
            "–" | "empty" => Value::from(""),
            "everything" => json!([{ "operator": "Exists" }]),
            default => serde_saphyr::from_str(default).unwrap(),
        };
        assert_eq!(value, &documented, "{path}");
        named += 1;
    }
    assert!(named > 20, "the README names only {named} values");
}

#[test]
fn exit_codes_of_caios_enroll_are_in_its_help() {
    let help = help(&binaries::enroll(), &["--help"]);
    for code in ["64", "66", "69", "77"] {
        assert!(help.contains(code), "exit code {code} is not in:\n{help}");
    }
}
