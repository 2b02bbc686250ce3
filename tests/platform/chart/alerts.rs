//! Alerts and dashboard: they fire when they should, and ask for nothing that is not exported.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use prometheus::{Registry, TextEncoder};
use serde_json::Value;
use tests::tools;

use super::rendered::{LEAST, NAMESPACE, Rendered, beside, shape};

fn rules() -> Value {
    let rendered = Rendered::new(&["--set", LEAST, "--set", "prometheusRule.enabled=true"]);
    rendered.object("PrometheusRule", "caios")["spec"].clone()
}

fn rules_of(groups: &Value) -> Vec<Value> {
    let groups = groups["groups"].as_array().unwrap();
    let rules = groups.iter().filter_map(|group| group["rules"].as_array());
    rules.flatten().cloned().collect()
}

/// Every expression of the alerts and of the dashboard.
fn expressions() -> Vec<String> {
    let rendered = Rendered::new(&[&shape("everything")]);
    let board = rendered.object("ConfigMap", "caios-dashboard");
    let board: Value = serde_json::from_str(board["data"]["caios.json"].as_str().unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let alerts = rules_of(&rules());
    let all = targets.chain(&alerts);
    let found: Vec<_> = all
        .map(|with| with["expr"].as_str().unwrap().to_owned())
        .collect();
    assert!(found.len() > 40, "{found:?}");
    found
}

/// What both binaries export: the same registries that their admin ports show.
fn exported() -> String {
    let registry = Registry::new();
    agent::metrics::Metrics::new(&registry).unwrap();
    injector::metrics::Metrics::new(&registry).unwrap();
    let shown = TextEncoder::new().encode_to_string(&registry.gather());
    // Of the process itself, which both show; and Prometheus' own, of the PodMonitor's targets.
    let job = format!("{NAMESPACE}/caios-agent");
    shown.unwrap()
        + "# TYPE process_resident_memory_bytes gauge\n"
        + &format!("# TYPE up gauge\nup{{job=\"{job}\"}} 1\n")
}

/// The metrics of an expression, each with its matchers.
fn selectors(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = ["caios_", "process_", "up{"]
        .iter()
        .filter_map(|prefix| rest.find(prefix))
        .min()
    {
        rest = &rest[start..];
        let (metric, after) = rest.split_at(rest.find(|c| !name(c)).unwrap_or(rest.len()));
        let mut matchers = Vec::new();
        if let Some((inside, _)) = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'))
        {
            for matcher in inside.split("\",") {
                let (label, values) = matcher.split_once('=').unwrap();
                let values = values.trim_matches(['~', '"']);
                matchers.extend(
                    values
                        .split('|')
                        .map(|value| (label.to_owned(), value.to_owned())),
                );
            }
        }
        found.push((metric.to_owned(), matchers));
        rest = after;
    }
    found
}

#[test]
fn every_expression_asks_only_for_series_that_the_binaries_export() {
    let exported = exported();
    for expression in expressions() {
        let selectors = selectors(&expression);
        assert!(!selectors.is_empty(), "{expression}");
        for (metric, matchers) in selectors {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| metric.strip_suffix(part))
                .unwrap_or(&metric);
            let declared = format!("# TYPE {family} ");
            assert!(exported.contains(&declared), "`{metric}` of {expression}");
            for (label, value) in matchers {
                let series = exported.lines().filter(|line| line.starts_with(family));
                let labelled = format!("{label}=\"{value}\"");
                let mut labelled = series.filter(|line| line.contains(&labelled));
                assert!(labelled.next().is_some(), "{label}={value} of {expression}");
            }
        }
    }
}

#[test]
fn every_alert_says_what_follows_and_what_to_do() {
    for rule in rules_of(&rules()) {
        let name = &rule["alert"];
        for annotation in ["summary", "description", "runbook"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(text.len() > 15, "{name} has no {annotation}");
        }
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["warning", "critical"].contains(&severity), "{name}");
    }
}

#[test]
fn every_alert_fires_when_it_should_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("rules.json"), rules().to_string()).unwrap();
    let tests = fs::read_to_string(beside("alerts.test.yaml")).unwrap();
    fs::write(directory.path().join("alerts.test.yaml"), &tests).unwrap();
    let promtool = tools::program("prometheus", "promtool").unwrap();
    for arguments in [
        ["check", "rules", "rules.json"],
        ["test", "rules", "alerts.test.yaml"],
    ] {
        let mut command = Command::new(&promtool);
        let output = command
            .args(arguments)
            .current_dir(&directory)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?}: {printed}{complaint}"
        );
    }
    let tested: BTreeSet<_> = tests
        .lines()
        .filter_map(|line| line.split_once("{alertname=\""))
        .map(|(_, rest)| rest.split('"').next().unwrap().to_owned())
        .collect();
    let alerts = rules_of(&rules());
    let named: BTreeSet<_> = alerts
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(tested, named, "each alert has its test");
}
