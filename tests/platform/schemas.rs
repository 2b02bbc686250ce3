//! Every Pod of the cases, as it was created, against the schemas of Kubernetes itself.

use std::process::Command;

use serde_json::{Value, json};
use tests::tools;

use crate::cases::{self, case::Case};

/// The oldest and the newest version that the chart supports.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];

#[test]
fn every_created_pod_is_one_for_the_oldest_and_the_newest_supported_version() {
    let pods = &cases::outcome().pods;
    let refused = |case: &&Case| case.refusal.is_some() || case.forbidden.is_some();
    let cases = cases::cases();
    let missing = cases.iter().filter(refused).count();
    assert_eq!(
        pods.len() + missing,
        cases.len(),
        "a Pod was not created: see the test of the cases"
    );

    let directory = tempfile::tempdir().unwrap();
    let mut validate = Command::new(tools::program("schemas", "kubernetes-validate").unwrap());
    validate.args(["--strict", "--quiet"]);
    for version in VERSIONS {
        validate.args(["--kubernetes-version", version]);
    }
    // One that no version knows shows that the schemas are asked.
    let unknown = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "unknown" },
        "spec": { "containers": [{ "name": "app", "image": "app", "volumeMount": [] }] },
    });
    let all = pods
        .iter()
        .map(|(name, pod)| (name.as_str(), submitted(pod)));
    for (name, pod) in all.chain([("unknown", unknown)]) {
        let file = directory.path().join(format!("{name}.yaml"));
        std::fs::write(&file, pod.to_string()).unwrap();
        validate.arg(file);
    }
    let output = validate.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let (expected, complaints): (Vec<_>, Vec<_>) = printed
        .lines()
        .partition(|line| line.contains("/unknown.yaml") && line.contains("'volumeMount'"));
    assert_eq!(expected.len(), VERSIONS.len(), "{printed}");
    assert!(complaints.is_empty(), "{complaints:#?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
}

/// A Pod as somebody could send it: without what the API server keeps about it.
fn submitted(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let fields = pod.as_object_mut().unwrap();
    fields.remove("status");
    let metadata = fields["metadata"].as_object_mut().unwrap();
    metadata.remove("managedFields");
    pod
}
