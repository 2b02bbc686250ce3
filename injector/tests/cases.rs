//! Every case of `tests/platform/cases`, through the library alone: the quick way to see what a
//! change of a decision does. The platform tests run the same files on a real API server.

#![cfg(test)]

#[path = "../../tests/platform/case.rs"]
mod case;

use std::collections::BTreeSet;
use std::path::Path;

use clap::Parser as _;
use injector::config::{Config, RunArgs};
use injector::mutate::{Decision, PodSecurity, Settings, Subject, Verdict, mutate};
use serde_json::Value;

use case::Case;

/// The issuer of the injector's own token, and the API server's audience.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    run: RunArgs,
}

fn cases() -> Vec<Case> {
    case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/platform/cases"))
}

fn settings(case: &Case) -> Settings {
    let fixed = [
        "caios-injector",
        "--certificates=directory",
        "--certificate-directory=/certificates",
    ];
    let flags = fixed.into_iter().map(str::to_owned).chain(case.flags());
    let command = Command::try_parse_from(flags).unwrap_or_else(|error| panic!("{error}"));
    let config = Config::new(&command.run).unwrap_or_else(|error| panic!("{error}"));
    config.injection.complete(ISSUER, &[ISSUER.to_owned()])
}

fn decide(case: &Case, pod: &Value) -> Verdict {
    let enforced = case.namespace.get("pod-security.kubernetes.io/enforce");
    let subject = Subject {
        pod,
        service_account: &case.service_account,
        pod_security: match enforced.map(String::as_str) {
            Some("baseline") => PodSecurity::Baseline,
            Some("restricted") => PodSecurity::Restricted,
            _ => PodSecurity::Privileged,
        },
        required: case.required(),
        draw: 0,
    };
    mutate(&subject, &settings(case))
}

fn patched(pod: &Value, verdict: &Verdict) -> Value {
    let patch: json_patch::Patch =
        serde_json::from_value(Value::Array(verdict.patch.clone())).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[test]
fn every_case_is_decided_as_its_file_says() {
    let mut wrong = Vec::new();
    for case in cases() {
        let verdict = decide(&case, &case.pod);
        let (found, expected) = (patched(&case.pod, &verdict), case.expected());
        let name = &case.name;
        if verdict.decision.label() != case.decision {
            wrong.push(format!("{name}: decision {}", verdict.decision.label()));
        }
        if found != expected {
            wrong.push(format!(
                "{name}: the Pod is\n{found:#}\ninstead of\n{expected:#}"
            ));
        }
        if verdict.warnings != case.warnings {
            wrong.push(format!("{name}: warnings {:#?}", verdict.warnings));
        }
        if verdict.refusal != case.refusal {
            wrong.push(format!("{name}: refusal {:?}", verdict.refusal));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_second_look_at_any_case_changes_nothing() {
    for case in cases() {
        let first = decide(&case, &case.pod);
        let second = decide(&case, &patched(&case.pod, &first));
        assert_eq!(second.patch, Vec::<Value>::new(), "{}", case.name);
        assert_eq!(second.warnings, first.warnings, "{}", case.name);
    }
}

#[test]
fn the_cases_cover_every_decision() {
    let cases = cases();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let covered: BTreeSet<_> = cases.iter().map(|case| case.decision.as_str()).collect();
    let decisions = Decision::ALL.map(Decision::label);
    assert_eq!(covered, BTreeSet::from(decisions));
}

#[test]
fn a_pod_that_the_api_server_will_refuse_is_warned_of() {
    for case in cases() {
        if case.forbidden.is_some() {
            assert!(case.decision == "injected" && !case.warnings.is_empty());
        }
        assert!(case.objects.iter().all(|object| object["kind"].is_string()));
    }
}
