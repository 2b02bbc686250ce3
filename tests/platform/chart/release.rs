//! Releases of the chart on a real API server, by both versions of Helm.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tests::control_plane::{ControlPlane, Helm};

use super::rendered::{BOTH, LEAST, NAMESPACE, RELEASE, Rendered, SHAPES, path, shape, template};

/// The kinds of other projects that the chart has objects of.
const FOREIGN: [(&str, &str, &str); 4] = [
    ("monitoring.coreos.com", "PodMonitor", "podmonitors"),
    ("monitoring.coreos.com", "PrometheusRule", "prometheusrules"),
    ("cert-manager.io", "Certificate", "certificates"),
    ("cert-manager.io", "Issuer", "issuers"),
];
const WEBHOOKS: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/caios-injector";

/// A cluster that the tests of the chart share: its webhooks are for all namespaces, so other tests
/// have no place in it. One release at a time.
pub(super) fn cluster() -> (&'static ControlPlane, MutexGuard<'static, ()>) {
    static CLUSTER: std::sync::OnceLock<ControlPlane> = std::sync::OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = CLUSTER.get_or_init(|| {
        let cluster = ControlPlane::new().unwrap();
        for (group, kind, plural) in FOREIGN {
            let anything =
                json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
            let definition = json!({
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": { "name": format!("{plural}.{group}") },
                "spec": {
                    "group": group,
                    "scope": "Namespaced",
                    "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
                    "versions": [{
                        "name": "v1", "served": true, "storage": true,
                        "schema": { "openAPIV3Schema": anything },
                    }],
                },
            });
            cluster.apply(&definition).unwrap().accepted().unwrap();
        }
        for (group, _, plural) in FOREIGN {
            let list = format!("/apis/{group}/v1/{plural}");
            let deadline = std::time::Duration::from_secs(30);
            tests::wait::until("its kinds are served", deadline, || {
                cluster.get(&list).is_ok_and(|answer| answer.code == 200)
            })
            .unwrap();
        }
        cluster
    });
    (cluster, alone)
}

/// Runs Helm with a release; what it printed.
pub(super) fn helm(cluster: &ControlPlane, version: Helm, arguments: &[&str]) -> String {
    let mut helm = cluster.helm(version).unwrap();
    helm.args(arguments).args(["--namespace", NAMESPACE]);
    cluster.printed(helm).unwrap()
}

/// Every object of the cluster by name, but for what comes and goes by itself.
fn objects(cluster: &ControlPlane) -> BTreeSet<String> {
    let mut kinds = cluster.kubectl().unwrap();
    kinds.args(["api-resources", "--verbs=list,delete", "--output=name"]);
    let kinds = cluster.printed(kinds).unwrap();
    let kinds: Vec<_> = kinds
        .lines()
        .filter(|kind| !kind.starts_with("events") && !kind.starts_with("leases"))
        .collect();
    let mut all = cluster.kubectl().unwrap();
    all.args(["get", &kinds.join(","), "--all-namespaces", "--output"]);
    all.arg(
        "jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}",
    );
    cluster
        .printed(all)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// `kubectl` with the rights of the injector, and no others.
pub(super) fn as_injector(cluster: &ControlPlane, arguments: &[&str]) -> anyhow::Result<String> {
    let token = cluster.token(NAMESPACE, "caios-injector", None, &[])?;
    let mut kubectl = cluster.kubectl()?;
    kubectl
        .env("KUBECONFIG", cluster.kubeconfig(&token)?)
        .args(arguments);
    cluster.printed(kubectl)
}

/// Does what the injector does: it fills its Secret and publishes its authority.
fn publish(cluster: &ControlPlane, authority: &str) {
    let data = json!({ "data": { "tls.crt": authority, "tls.key": "a2V5" } }).to_string();
    let secret = [
        "patch",
        "secret",
        "caios-injector-certificate",
        "--patch",
        &data,
    ];
    as_injector(
        cluster,
        &[&secret[..], &["--namespace", NAMESPACE]].concat(),
    )
    .unwrap();
    let bundle = |entry: usize| json!({ "op": "add", "path": format!("/webhooks/{entry}/clientConfig/caBundle"), "value": authority });
    let patch = json!([bundle(0), bundle(1)]).to_string();
    let configuration = "mutatingwebhookconfiguration";
    let arguments = [
        "patch",
        configuration,
        "caios-injector",
        "--type=json",
        "--patch",
        &patch,
    ];
    as_injector(cluster, &arguments).unwrap();
}

/// What is published.
fn published(cluster: &ControlPlane) -> Vec<String> {
    let secret = format!("/api/v1/namespaces/{NAMESPACE}/secrets/caios-injector-certificate");
    let secret = cluster.get(&secret).unwrap().accepted().unwrap();
    let webhooks = cluster.get(WEBHOOKS).unwrap().accepted().unwrap();
    vec![
        secret.string("/data/tls.crt").to_owned(),
        secret.string("/data/tls.key").to_owned(),
        webhooks
            .string("/webhooks/0/clientConfig/caBundle")
            .to_owned(),
        webhooks
            .string("/webhooks/1/clientConfig/caBundle")
            .to_owned(),
    ]
}

fn region(cluster: &ControlPlane) -> String {
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/caios-injector");
    let deployment = cluster.get(&path).unwrap().accepted().unwrap().body;
    let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    let args = super::rendered::texts(&args).join(" ");
    let (_, region) = args.split_once("--region=").unwrap();
    region.split(' ').next().unwrap().to_owned()
}

/// An authority that the API server takes: it looks whether a bundle is PEM.
fn authority(cluster: &ControlPlane) -> String {
    let kubeconfig = cluster.ca_pem();
    let mut encode = cluster.kubectl().unwrap();
    encode.args([
        "create",
        "secret",
        "generic",
        "x",
        "--dry-run=client",
        "--output=jsonpath={.data.ca}",
    ]);
    encode.arg(format!("--from-literal=ca={kubeconfig}"));
    cluster.printed(encode).unwrap()
}

#[test]
fn a_values_file_of_the_existing_webhook_lives_through_upgrades_and_leaves_nothing_behind() {
    let (cluster, _alone) = cluster();
    let authority = authority(cluster);
    let chart = path("helm");
    let values = shape("defaults");
    let kept = vec![
        authority.clone(),
        "a2V5".to_owned(),
        authority.clone(),
        authority.clone(),
    ];
    // The last pair: a release of Helm 3 that Helm 4 takes over.
    for (first, later) in [
        (Helm::V3, Helm::V3),
        (Helm::V4, Helm::V4),
        (Helm::V3, Helm::V4),
    ] {
        cluster
            .apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))
            .unwrap()
            .accepted()
            .unwrap();
        let before = objects(cluster);
        let notes = helm(
            cluster,
            first,
            &["install", RELEASE, &chart, &values, "--create-namespace"],
        );
        assert!(
            notes.contains("role/<issuer>:system:serviceaccount:<namespace>:<name>"),
            "{notes}"
        );
        assert_eq!(
            published(cluster),
            ["", "", "", ""],
            "Helm renders none of it"
        );
        publish(cluster, &authority);

        let other = "--set=config.region=RNO2A";
        helm(
            cluster,
            later,
            &["upgrade", RELEASE, &chart, &values, other],
        );
        assert_eq!(region(cluster), "RNO2A");
        assert_eq!(published(cluster), kept, "{first:?}, upgraded by {later:?}");

        helm(cluster, later, &["rollback", RELEASE, "1"]);
        assert_eq!(region(cluster), "US-EAST-04A");
        assert_eq!(
            published(cluster),
            kept,
            "{first:?}, rolled back by {later:?}"
        );

        helm(cluster, later, &["uninstall", RELEASE]);
        let after = objects(cluster);
        let left: Vec<_> = after.difference(&before).collect();
        let gone: Vec<_> = before.difference(&after).collect();
        assert!(
            left.is_empty() && gone.is_empty(),
            "left {left:?}, gone {gone:?}"
        );
    }
}

#[test]
fn every_shape_installs_upgrades_into_the_next_and_leaves_nothing_behind() {
    let (cluster, _alone) = cluster();
    let chart = path("helm");
    for version in BOTH {
        cluster
            .apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))
            .unwrap()
            .accepted()
            .unwrap();
        let before = objects(cluster);
        let [first, second, third] = SHAPES.map(shape);
        // The namespace is there: see its value.
        let no_namespace = "--set=namespace.create=false";
        helm(cluster, version, &["install", RELEASE, &chart, &first]);
        for values in [second, third, first] {
            helm(
                cluster,
                version,
                &["upgrade", RELEASE, &chart, &values, no_namespace],
            );
        }
        helm(cluster, version, &["uninstall", RELEASE]);
        assert_eq!(objects(cluster), before, "{version:?}");
    }
}

#[test]
fn the_api_server_takes_every_object_of_every_shape_without_a_warning() {
    let (cluster, _alone) = cluster();
    // The second is where the Pod of `helm test` runs.
    for name in [NAMESPACE, "research"] {
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        cluster.apply(&namespace).unwrap().accepted().unwrap();
    }
    cluster.service_account("research", "trainer", &[]).unwrap();
    for name in SHAPES {
        let mut apply = cluster.kubectl().unwrap();
        apply.args([
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
        ]);
        apply.args(["--validate=strict", "--warnings-as-errors", "--filename=-"]);
        // Fields that came later are there for those API servers alone that know them.
        let version = cluster.get("/version").unwrap().accepted().unwrap().body;
        let version = format!("--kube-version={}", version["gitVersion"].as_str().unwrap());
        let rendered = template(Helm::V4, &[&shape(name), &version]).unwrap();
        let output = cluster.output_with(apply, &rendered).unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && complaint.is_empty(),
            "{name}: {complaint}"
        );
    }
    for version in BOTH {
        let chart = path("helm");
        helm(
            cluster,
            version,
            &[
                "install",
                RELEASE,
                &chart,
                "--set",
                LEAST,
                "--dry-run=server",
            ],
        );
    }
}

#[test]
fn a_second_release_in_the_same_cluster_is_refused() {
    let (cluster, _alone) = cluster();
    let chart = path("helm");
    helm(
        cluster,
        Helm::V4,
        &[
            "install",
            RELEASE,
            &chart,
            "--set",
            LEAST,
            "--create-namespace",
        ],
    );
    let mut second = cluster.helm(Helm::V4).unwrap();
    second.args(["install", "other", &chart, "--set", LEAST]);
    second.args(["--namespace", "elsewhere", "--create-namespace"]);
    let refused = cluster.printed(second).unwrap_err().to_string();
    helm(cluster, Helm::V4, &["uninstall", RELEASE]);
    assert!(refused.contains("caios-injector"), "{refused}");
    assert!(
        refused.contains("exists and cannot be imported"),
        "{refused}"
    );
}

#[test]
fn the_webhooks_leave_out_the_system_and_their_own_namespace() {
    let rendered = Rendered::new(&[&shape("everything")]);
    let webhooks = &rendered.object("MutatingWebhookConfiguration", "caios-injector")["webhooks"];
    let policies = [
        ("required.caios.coreweave.com", "Fail", "/mutate/required"),
        ("serviceaccount.caios.coreweave.com", "Ignore", "/mutate"),
    ];
    for (webhook, (name, policy, path)) in webhooks.as_array().unwrap().iter().zip(policies) {
        assert_eq!(webhook["name"], name);
        assert_eq!(webhook["failurePolicy"], policy);
        assert_eq!(webhook["clientConfig"]["service"]["path"], path);
        assert_eq!(webhook["clientConfig"]["caBundle"], Value::Null);
        let excluded = &webhook["namespaceSelector"]["matchExpressions"][0]["values"];
        assert_eq!(
            *excluded,
            json!(["kube-system", NAMESPACE, "gatekeeper-system"])
        );
    }
}
