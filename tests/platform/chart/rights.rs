//! What the two ServiceAccounts may do, as the API server itself says: exactly what is listed here.

use std::collections::BTreeSet;

use tests::control_plane::{ControlPlane, Helm};

use super::release::{as_injector, cluster, helm};
use super::rendered::{LEAST, NAMESPACE, RELEASE, path};

/// The rights of a ServiceAccount, one a line, without those that every ServiceAccount has.
fn rights(cluster: &ControlPlane, name: &str) -> BTreeSet<String> {
    let list = |name: &str| {
        let mut kubectl = cluster.kubectl().unwrap();
        kubectl.args(["auth", "can-i", "--list", "--namespace", NAMESPACE]);
        kubectl.arg(format!("--as=system:serviceaccount:{NAMESPACE}:{name}"));
        kubectl.args([
            "--as-group=system:serviceaccounts",
            "--as-group=system:authenticated",
        ]);
        kubectl.arg(format!("--as-group=system:serviceaccounts:{NAMESPACE}"));
        let printed = cluster.printed(kubectl).unwrap();
        let lines = printed.lines().skip(1);
        let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<BTreeSet<_>>()
    };
    &list(name) - &list("nobody")
}

#[test]
fn each_serviceaccount_has_the_rights_that_it_uses_and_no_others() {
    let (cluster, _alone) = cluster();
    let chart = path("helm");
    let managed = [
        "install",
        RELEASE,
        &chart,
        "--set",
        LEAST,
        "--create-namespace",
    ];
    helm(cluster, Helm::V4, &managed);
    let by_hand = [
        "upgrade",
        RELEASE,
        &chart,
        "--set",
        LEAST,
        "--set=injector.certificate.mode=secret,injector.certificate.secret.name=own",
        "--set=injector.certificate.secret.caBundle=-----BEGIN CERTIFICATE-----",
    ];
    let agent = rights(cluster, "caios-agent");
    let agent_with = |values: &str| {
        let upgrade = ["upgrade", RELEASE, &chart, "--set", LEAST, "--set", values];
        helm(cluster, Helm::V4, &upgrade);
        rights(cluster, "caios-agent")
    };
    let silent = agent_with("agent.events=false");
    let blind = agent_with("agent.watchPods=false");
    let injector = rights(cluster, "caios-injector");
    let secret = [
        "get",
        "secret",
        "caios-injector-certificate",
        "--namespace",
        NAMESPACE,
    ];
    let watched = [
        "get",
        "secret",
        "--field-selector=metadata.name=caios-injector-certificate",
        "--namespace",
        NAMESPACE,
    ];
    let own = as_injector(cluster, &secret).and_then(|_| as_injector(cluster, &watched));
    let others = as_injector(cluster, &["get", "secrets", "--namespace", NAMESPACE]);
    // The API server refuses a bundle that is no certificate, but not before Helm has sent the rest.
    let mut upgrade = cluster.helm(Helm::V4).unwrap();
    upgrade
        .args(by_hand)
        .args(["--namespace", NAMESPACE, "--dry-run=client"]);
    let rendered = cluster.printed(upgrade).unwrap();
    helm(cluster, Helm::V4, &["uninstall", RELEASE]);

    // Every ServiceAccount may read the issuer's keys on this cluster, as on most.
    let expected = [
        "events.events.k8s.io [] [] [create]",
        "pods [] [] [list watch]",
        "serviceaccounts [] [] [get]",
    ];
    assert_eq!(agent, expected.map(str::to_owned).into());
    assert_eq!(
        silent,
        ["pods [] [] [list watch]", "serviceaccounts [] [] [get]"]
            .map(str::to_owned)
            .into()
    );
    assert_eq!(blind, BTreeSet::new());
    let expected = [
        "mutatingwebhookconfigurations.admissionregistration.k8s.io [] [caios-injector] [get list watch patch]",
        "namespaces [] [] [get list watch]",
        "secrets [] [caios-injector-certificate] [get list watch patch]",
        "serviceaccounts [] [] [get list watch]",
    ];
    assert_eq!(injector, expected.map(str::to_owned).into());
    own.unwrap();
    let refused = others.unwrap_err().to_string();
    assert!(refused.contains("Forbidden"), "{refused}");
    // With a certificate of others it needs neither.
    assert!(!rendered.contains("resources: [secrets]"));
    assert!(!rendered.contains("resources: [mutatingwebhookconfigurations]"));
}
