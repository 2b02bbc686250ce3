//! `helm test` on a real API server, with the real injector. No kubelet runs here, so the test says in
//! its place how the Pod has ended.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::chart::{self, LEAST, NAMESPACE, RELEASE};
use tests::control_plane::{ControlPlane, Helm};
use tests::injector::{Release, injected};
use tests::wait;

const PATIENCE: Duration = Duration::from_mins(1);

/// The Pod of the test, when it is there and has not ended: the one before it stays until then.
fn pod(cluster: &ControlPlane) -> Value {
    let path = "/api/v1/namespaces/training/pods/caios-helm-test";
    let mut found = None;
    wait::until("the Pod is there", PATIENCE, || {
        let answer = cluster.get(path).ok();
        found = answer.filter(|answer| answer.body["status"]["phase"] == "Pending");
        found.is_some()
    })
    .unwrap();
    found.unwrap().body
}

/// Says that the Pod has ended, as its kubelet would.
fn end(cluster: &ControlPlane, phase: &str) {
    let mut kubectl = cluster.kubectl().unwrap();
    let status = json!({ "status": { "phase": phase } }).to_string();
    kubectl.args(["--namespace", "training", "patch", "pod", "caios-helm-test"]);
    kubectl.args(["--subresource=status", "--type=merge", "--patch", &status]);
    cluster.printed(kubectl).unwrap();
}

fn helm(cluster: &ControlPlane, arguments: &[&str]) -> Command {
    let mut helm = cluster.helm(Helm::V4).unwrap();
    helm.args(arguments).args(["--namespace", NAMESPACE]);
    helm
}

#[test]
fn helm_test_runs_the_check_in_an_injected_pod_and_ends_as_it_does() {
    let cluster = ControlPlane::new().unwrap();
    cluster
        .apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "training" },
        }))
        .unwrap()
        .accepted()
        .unwrap();
    let annotated = [("caios.coreweave.com/inject", "true")];
    cluster
        .service_account("training", "trainer", &annotated)
        .unwrap();
    let chart = chart::path("helm");
    let values =
        "helmTest.enabled=true,helmTest.namespace=training,helmTest.serviceAccount=trainer";
    let install = [
        "install",
        RELEASE,
        &chart,
        "--create-namespace",
        "--set",
        LEAST,
        "--set",
        values,
    ];
    cluster.printed(helm(&cluster, &install)).unwrap();
    let injector = Release::installed(&cluster, NAMESPACE).unwrap();
    wait::until("the webhook is called", PATIENCE, || {
        let probe = tests::injector::pod("training", "trainer", false);
        cluster
            .create_dry(&probe)
            .is_ok_and(|answer| injected(&answer.body))
    })
    .unwrap();

    for (phase, succeeds) in [("Succeeded", true), ("Failed", false)] {
        std::thread::scope(|scope| {
            let command = helm(&cluster, &["test", RELEASE, "--timeout", "2m"]);
            let tested = scope.spawn(|| cluster.output(command).unwrap());
            let pod = pod(&cluster);
            assert!(injected(&pod), "{pod}\n{}", injector.log());
            let container = &pod["spec"]["containers"][0];
            assert_eq!(container["args"][0], "check");
            let environment = container["env"].to_string();
            assert!(
                environment.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
                "{environment}"
            );
            end(&cluster, phase);
            let tested = tested.join().unwrap();
            let printed = String::from_utf8_lossy(&tested.stdout);
            assert_eq!(tested.status.success(), succeeds, "{printed}");
        });
    }
}
