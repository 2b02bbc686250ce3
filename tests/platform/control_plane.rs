//! The control plane is what the other tests take it for.

use std::time::Duration;

use serde_json::json;
use tests::control_plane::{ControlPlane, Helm};
use tests::injector::Release;
use tests::wait;

#[test]
fn an_admin_reaches_the_cluster_with_kubectl_and_both_versions_of_helm() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace("smoke", &[("purpose", "smoke")]).unwrap();

    let mut kubectl = cluster.kubectl().unwrap();
    kubectl.args(["get", "namespace", &namespace, "--show-labels"]);
    let shown = cluster.printed(kubectl).unwrap();
    assert!(shown.contains("purpose=smoke"), "{shown}");

    for version in [Helm::V3, Helm::V4] {
        let mut helm = cluster.helm(version).unwrap();
        helm.args(["list", "--namespace", &namespace, "--output", "json"]);
        assert_eq!(cluster.printed(helm).unwrap().trim(), "[]", "{version:?}");
    }
}

#[test]
fn pod_security_warns_as_on_any_cluster() {
    let cluster = ControlPlane::shared();
    let labels = [("pod-security.kubernetes.io/warn", "restricted")];
    let namespace = cluster.namespace("warned", &labels).unwrap();
    let created = cluster
        .create(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "namespace": namespace, "generateName": "app-" },
            "spec": { "containers": [{ "name": "main", "image": "app.invalid/app" }] },
        }))
        .unwrap()
        .accepted()
        .unwrap();
    let warnings = &created.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains(r#"would violate PodSecurity "restricted:latest""#),
        "{warnings:?}"
    );
    assert!(created.string("/metadata/name").starts_with("app-"));
}

#[test]
fn a_control_plane_of_ones_own_has_controllers_and_outlives_its_api_server() {
    let cluster = ControlPlane::new().unwrap().with_controllers().unwrap();
    let namespace = cluster.namespace("controlled", &[]).unwrap();
    cluster
        .apply_yaml(&format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, namespace: {namespace} }}
spec:
  replicas: 2
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec: {{ containers: [{{ name: main, image: app.invalid/app }}] }}
---
apiVersion: v1
kind: ConfigMap
metadata: {{ name: kept, namespace: {namespace} }}
"
        ))
        .unwrap()
        .into_iter()
        .for_each(|answer| drop(answer.accepted().unwrap()));
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    wait::until(
        "the Deployment has its Pods",
        Duration::from_secs(30),
        || {
            let list = cluster.get(&pods).unwrap().accepted().unwrap().body;
            list["items"]
                .as_array()
                .is_some_and(|items| items.len() == 2)
        },
    )
    .unwrap();

    cluster.stop_api_server();
    assert!(cluster.get("/readyz").is_err());
    cluster.start_api_server().unwrap();
    let kept = format!("/api/v1/namespaces/{namespace}/configmaps/kept");
    assert_eq!(cluster.get(&kept).unwrap().code, 200);
}

#[test]
fn tokens_are_bound_to_the_pod_and_its_node_and_carry_no_other_right() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace("tokens", &[]).unwrap();
    cluster.service_account(&namespace, "reader", &[]).unwrap();
    let uid = cluster
        .pod(&namespace, "reader", "app", "node-of-tokens")
        .unwrap();
    let token = cluster
        .token(&namespace, "reader", Some("app"), &["s3"])
        .unwrap();
    let review = cluster
        .create(&json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": ["s3"] },
        }))
        .unwrap()
        .accepted()
        .unwrap();
    let status = &review.body["status"];
    assert_eq!(
        status["user"]["username"],
        format!("system:serviceaccount:{namespace}:reader")
    );
    let extra = &status["user"]["extra"];
    assert_eq!(
        extra["authentication.kubernetes.io/pod-uid"][0],
        uid.as_str()
    );
    assert_eq!(
        extra["authentication.kubernetes.io/node-name"][0],
        "node-of-tokens"
    );

    let own = cluster.token(&namespace, "reader", None, &[]).unwrap();
    let mut kubectl = cluster.kubectl().unwrap();
    kubectl.env("KUBECONFIG", cluster.kubeconfig(&own).unwrap());
    kubectl.args(["get", "pods", "--namespace", &namespace]);
    let output = cluster.output(kubectl).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("Forbidden"), "{complaint}");
}

#[test]
fn an_injector_behind_a_service_reviews_the_pods_of_its_namespace() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace("injected", &[]).unwrap();
    let release = Release::new(cluster, &namespace).unwrap();
    let mut injector = release.injector(&[]).unwrap();
    let family = "apiserver_admission_webhook_admission_duration_seconds";
    let labels = [r#"name="required.caios.coreweave.com""#];
    let measured = cluster.histogram(family, &labels).unwrap();
    assert!(measured.count >= 1.0, "{measured:?}");
    assert!(measured.quantile(0.5).unwrap() < 5.0, "{measured:?}");
    injector.withdraw().unwrap();
    assert!(
        injector.terminate().unwrap().success(),
        "{}",
        injector.log()
    );
}
