//! Every case of `tests/platform/cases`, through the real API server and the real injector.

#[path = "case.rs"]
pub(crate) mod case;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tests::control_plane::ControlPlane;
use tests::injector::Release;
use tests::wait;

use case::Case;

/// How long the API server may take to see a webhook.
const PATIENCE: Duration = Duration::from_secs(90);
const PREFIX: &str = "caios.coreweave.com/";

/// Every case.
pub(crate) fn cases() -> Vec<Case> {
    case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("platform/cases"))
}

/// What cases must have in common to share an injector and a namespace.
fn surroundings(case: &Case) -> String {
    format!("{:?} {:?} {:?}", case.flags(), case.namespace, case.objects)
}

/// What became of the cases.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What is not as the files say.
    wrong: Vec<String>,
    /// Every Pod as it was created, by the name of its case.
    pub(crate) pods: BTreeMap<String, Value>,
}

#[test]
fn every_case_is_decided_as_its_file_says() {
    let wrong = &outcome().wrong;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs every case, once for all tests.
pub(crate) fn outcome() -> &'static Outcome {
    static OUTCOME: OnceLock<Outcome> = OnceLock::new();
    OUTCOME.get_or_init(|| {
        let mut groups: BTreeMap<String, Vec<Case>> = BTreeMap::new();
        for case in cases() {
            groups.entry(surroundings(&case)).or_default().push(case);
        }
        let cluster = ControlPlane::shared();
        for class in ["gvisor", "kata-qemu"] {
            let class = json!({
                "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                "metadata": {"name": class}, "handler": class,
            });
            cluster.apply(&class).unwrap().accepted().unwrap();
        }
        let mut outcome = Outcome::default();
        for cases in groups.values() {
            run(cluster, cases, &mut outcome);
        }
        outcome
    })
}

/// Runs cases that share their surroundings.
fn run(cluster: &ControlPlane, cases: &[Case], outcome: &mut Outcome) {
    let Some(first) = cases.first() else { return };
    let labels: Vec<(&str, &str)> = first
        .namespace
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let reviewed = cluster.namespace("reviewed", &[]).unwrap();
    // Nobody reviews its Pods: what is expected gets the API server's defaults here.
    let plain = cluster.namespace("plain", &[]).unwrap();
    for namespace in [&reviewed, &plain] {
        for case in cases {
            let annotations: Vec<(String, &str)> = case
                .service_account
                .iter()
                .map(|(name, value)| (format!("{PREFIX}{name}"), value.as_str()))
                .collect();
            let annotations: Vec<(&str, &str)> = annotations
                .iter()
                .map(|(name, value)| (name.as_str(), *value))
                .collect();
            let name = service_account(case);
            cluster
                .service_account(namespace, name, &annotations)
                .unwrap();
        }
        for object in &first.objects {
            let mut object = object.clone();
            object["metadata"]["namespace"] = json!(namespace);
            cluster.apply(&object).unwrap().accepted().unwrap();
        }
    }
    let release = Release::new(cluster, &reviewed).unwrap();
    let mut arguments: Vec<String> = first.flags();
    // `--region` and the like are given once: the case's own in place of the release's.
    let usual = release.arguments();
    for pair in usual.chunks(2) {
        if !["--image", "--region"].contains(&pair[0].as_str()) {
            arguments.extend(pair.iter().cloned());
        }
    }
    let mut injector = release.spawn(&arguments).unwrap();
    injector.ready().unwrap();
    wait::until("the API server calls the injector", PATIENCE, || {
        let probe = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": reviewed, "name": "probe",
                "labels": {format!("{PREFIX}inject"): "true"},
            },
            "spec": {"containers": [{
                "name": "app", "image": "app",
                // Enough for every LimitRange and quota of the cases.
                "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},
            }], "serviceAccountName": service_account(first)},
        });
        let answer = cluster.create_dry(&probe);
        answer.is_ok_and(|answer| answer.body["spec"].to_string().contains("caios-token"))
    })
    .unwrap();
    for (name, value) in &labels {
        let change = json!({"metadata": {"labels": {*name: value}}});
        let path = format!("/api/v1/namespaces/{reviewed}");
        cluster.merge(&path, &change).unwrap().accepted().unwrap();
    }
    for case in cases {
        check(cluster, case, &reviewed, &plain, outcome);
    }
}

fn service_account(case: &Case) -> &str {
    let named = case.pod.pointer("/spec/serviceAccountName");
    match named.and_then(Value::as_str) {
        Some(name) => name,
        None if case.name == "no-service-account-named" || case.name == "mirror-pod" => "default",
        None => &case.name,
    }
}

/// A Pod of the case in a namespace.
fn pod(case: &Case, pod: &Value, namespace: &str) -> Value {
    let mut pod = pod.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["namespace"] = json!(namespace);
    if pod["metadata"]["name"].is_string() {
        pod["metadata"]["name"] = json!(case.name);
    }
    if service_account(case) != "default" {
        pod["spec"]["serviceAccountName"] = json!(service_account(case));
    }
    pod
}

fn check(cluster: &ControlPlane, case: &Case, reviewed: &str, plain: &str, outcome: &mut Outcome) {
    let name = &case.name;
    let wrong = &mut outcome.wrong;
    let asked = pod(case, &case.pod, reviewed);
    let dry = cluster.create_dry(&asked).unwrap();
    let created = cluster.create(&asked).unwrap();
    let warnings: Vec<String> = created
        .warnings
        .iter()
        .filter(|warning| case.warnings.contains(warning))
        .cloned()
        .collect();
    let ours = |warning: &&String| !warning.contains("PodSecurity");
    if warnings != case.warnings || created.warnings.iter().filter(ours).count() != warnings.len() {
        wrong.push(format!("{name}: warnings {:#?}", created.warnings));
    }
    if dry.code != created.code || dry.warnings != created.warnings {
        wrong.push(format!(
            "{name}: a dry run gives {} {}",
            dry.code,
            dry.message()
        ));
    }
    if let Some(message) = case.refusal.as_ref().or(case.forbidden.as_ref()) {
        let by_us = case.decision == "refused" && case.required();
        if by_us != case.refusal.is_some() {
            wrong.push(format!("{name}: refused by the wrong one"));
        }
        if created.code != 403 || !created.message().contains(message.as_str()) {
            wrong.push(format!("{name}: {} {}", created.code, created.message()));
        }
        return;
    }
    let expected = pod(case, &case.expected(), plain);
    let expected = cluster.create_dry(&expected).unwrap();
    if created.code != 201 || expected.code != 201 {
        let messages = [created.message(), expected.message()];
        wrong.push(format!("{name}: {messages:#?}"));
        return;
    }
    let (found, wanted) = (comparable(&created.body), comparable(&expected.body));
    if found != wanted {
        wrong.push(format!(
            "{name}: the Pod is\n{found:#}\ninstead of\n{wanted:#}"
        ));
    }
    outcome.pods.insert(name.clone(), created.body);
}

/// A Pod's spec without what differs from one creation to the next: the order of volumes and
/// mounts, the name of the API server's token volume, and the life that is drawn for ours.
pub(crate) fn comparable(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let drawn = volumes.iter().filter_map(|volume| volume["name"].as_str());
    let random: Vec<String> = drawn
        .filter(|name| name.starts_with("kube-api-access-"))
        .map(str::to_owned)
        .collect();
    let mut text = spec.to_string();
    for name in random {
        text = text.replace(&name, "kube-api-access");
    }
    spec = serde_json::from_str(&text).unwrap();
    sort(&mut spec["volumes"], "name");
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            sort(&mut container["volumeMounts"], "mountPath");
        }
    }
    let life = "/projected/sources/0/serviceAccountToken/expirationSeconds";
    for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
        if volume["name"] == "caios-token"
            && let Some(life) = volume.pointer_mut(life)
            && (79_200..=86_400).contains(&life.as_u64().unwrap_or(0))
        {
            *life = json!(86_400);
        }
    }
    spec
}

fn sort(list: &mut Value, key: &str) {
    if let Some(items) = list.as_array_mut() {
        items.sort_by_key(|item| item[key].as_str().unwrap_or_default().to_owned());
    }
}
