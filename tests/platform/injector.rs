//! The injector on a real API server, with the rights, webhooks and flags that the chart gives it.

mod load;

use std::time::Duration;

use serde_json::{Value, json};
use tests::control_plane::ControlPlane;
use tests::injector::{Injector, Release, injected};
use tests::wait;

use self::load::Load;

const PATIENCE: Duration = Duration::from_mins(1);
const ANNOTATED: [(&str, &str); 1] = [("caios.coreweave.com/inject", "true")];

/// A release whose webhooks see a namespace of the test's own.
fn release<'a>(cluster: &'a ControlPlane, prefix: &str) -> Release<'a> {
    let target = cluster.namespace(prefix, &[]).unwrap();
    Release::new(cluster, &target).unwrap()
}

/// Two replicas that start at the same time, when both are ready and called.
fn two<'a>(release: &Release<'a>, flags: &[&str]) -> [Injector<'a>; 2] {
    let mut replicas = [(); 2].map(|()| release.start(flags).unwrap());
    for replica in &mut replicas {
        replica.ready().unwrap();
    }
    release.called().unwrap();
    replicas
}

fn metric(injector: &Injector<'_>, series: &str) -> f64 {
    injector.admin().metric(series).unwrap()
}

/// What `/readyz` says: status and unmet conditions.
fn readiness(injector: &Injector<'_>) -> (u16, String) {
    let answer = injector.admin().get("/readyz").unwrap();
    (answer.status, answer.body)
}

/// The authority in the Secret, in base64.
fn authority(release: &Release<'_>) -> Value {
    release.secret().unwrap()["ca.crt"].clone()
}

#[test]
fn two_replicas_agree_on_one_authority_and_repair_its_bundle() {
    let release = release(ControlPlane::shared(), "two");
    let replicas = two(&release, &[]);
    assert!(release.is_published().unwrap());
    let expiry = "caios_injector_certificate_expiry_timestamp_seconds";
    let [one, other] = replicas.each_ref().map(|replica| metric(replica, expiry));
    assert!((one - other).abs() < f64::EPSILON, "{one} {other}");

    let authority = authority(&release);
    release.set_bundles([None, authority.as_str()]).unwrap();
    wait::until("caBundle is right again", PATIENCE, || {
        release.is_published().unwrap()
    })
    .unwrap();
    assert_eq!(self::authority(&release), authority, "the authority stays");
    let repairs: f64 = replicas
        .iter()
        .map(|replica| metric(replica, "caios_injector_ca_bundle_repairs_total"))
        .sum();
    assert!(repairs >= 2.0, "at first and now: {repairs}");
}

#[test]
fn what_makes_no_sense_in_the_secret_is_replaced_without_a_lost_review() {
    let release = release(ControlPlane::shared(), "garbage");
    let [replica, _second] = two(&release, &["--certificate-lifetime=1h"]);
    let first = release.secret().unwrap()["tls.crt"].clone();
    let load = Load::start(&release);

    let garbage = json!({ "data": { "ca.crt": "Z2FyYmFnZQ==", "tls.key": null } });
    let (cluster, secret) = (release.cluster(), release.secret_path().unwrap());
    cluster
        .merge(&secret, &garbage)
        .unwrap()
        .accepted()
        .unwrap();
    wait::until("there is another certificate", PATIENCE, || {
        let now = release.secret().unwrap()["tls.crt"].clone();
        now.is_string() && now != first && release.is_published().unwrap()
    })
    .unwrap();
    wait::until("it is served", PATIENCE, || {
        replica.log().matches("serving a certificate").count() == 2
    })
    .unwrap();

    // Deleted, and made again by the chart.
    cluster.delete(&secret).unwrap().accepted().unwrap();
    wait::until("the log says what to do", PATIENCE, || {
        replica.log().contains("`helm upgrade` makes it again")
    })
    .unwrap();
    release.make_secret().unwrap();
    wait::until("it is full again", PATIENCE, || {
        release.is_published().unwrap()
    })
    .unwrap();
    load.end_without_failure();
    assert!(!replica.log().contains("PRIVATE KEY"));
}

#[test]
fn certificate_and_authority_are_rotated_under_load_without_a_failed_review() {
    let release = release(ControlPlane::shared(), "rotated");
    let replicas = two(
        &release,
        &["--certificate-lifetime=20s", "--ca-lifetime=40s"],
    );
    let load = Load::start(&release);
    let mut authorities = vec![authority(&release)];
    wait::until("authorities have come and gone", 2 * PATIENCE, || {
        let now = authority(&release);
        if authorities.last() != Some(&now) {
            authorities.push(now);
        }
        // Added, old one dropped, and both again.
        authorities.len() >= 5
    })
    .unwrap();
    load.end_without_failure();
    for replica in &replicas {
        let served = replica.log().matches("serving a certificate").count();
        assert!(served >= 4, "only {served} certificates were served");
    }
}

#[test]
fn without_an_injector_unlabelled_pods_start_and_labelled_ones_are_refused_with_a_message() {
    let release = release(ControlPlane::shared(), "down");
    let mut replica = release.injector(&[]).unwrap();
    replica.kill().unwrap();
    let started = release.create("default", false).unwrap();
    assert_eq!(started.code, 201, "{}", started.message());
    let refused = release.create("default", true).unwrap();
    assert_eq!(refused.code, 500);
    let names = refused.message().contains("required.caios.coreweave.com");
    assert!(names, "{}", refused.message());
}

#[test]
fn a_service_account_made_in_the_same_second_as_its_pod_is_always_seen() {
    let release = release(ControlPlane::shared(), "fresh");
    let (cluster, namespace) = (release.cluster(), &release.target);
    let _injector = release.injector(&[]).unwrap();
    for number in 0..100 {
        let name = format!("fresh-{number}");
        // Half of them are annotated by a second call, as `kubectl annotate` does.
        if number % 2 == 0 {
            cluster.service_account(namespace, &name, &[]).unwrap();
        }
        cluster
            .service_account(namespace, &name, &ANNOTATED)
            .unwrap();
        let created = release.create(&name, false).unwrap();
        assert!(injected(&created.body), "{name}: {}", created.message());
    }
}

#[test]
fn without_its_rights_the_injector_says_so_and_waits() {
    let release = release(ControlPlane::shared(), "forbidden");
    release.forbid().unwrap();
    let mut replica = release.start(&[]).unwrap();
    let rights = [
        "`serviceaccounts`",
        "`namespaces`",
        "`secrets`",
        "`mutatingwebhookconfigurations`",
    ];
    wait::until("the log names every missing right", PATIENCE, || {
        let log = replica.log();
        rights.iter().all(|right| log.contains(right)) && log.contains("is forbidden")
    })
    .unwrap();
    let (status, unmet) = readiness(&replica);
    assert_eq!(status, 503);
    assert_eq!(
        unmet,
        "service accounts\nnamespaces\ncertificate\ncaBundle\n"
    );
    assert_eq!(replica.admin().get("/livez").unwrap().status, 200);
    release.allow().unwrap();
    replica.ready().unwrap();

    // Lost again: what it knows goes on to be served.
    release.called().unwrap();
    let (cluster, namespace) = (release.cluster(), &release.target);
    cluster
        .service_account(namespace, "known", &ANNOTATED)
        .unwrap();
    assert!(injected(&release.create("known", false).unwrap().body));
    release.forbid().unwrap();
    assert_eq!(readiness(&replica).0, 200);
    assert!(injected(&release.create("known", false).unwrap().body));
}

#[test]
fn the_injector_outlives_the_api_server() {
    let cluster = ControlPlane::new().unwrap();
    let release = release(&cluster, "restarted");
    let replica = release.injector(&[]).unwrap();
    cluster.stop_api_server();
    wait::until("the watch has failed", PATIENCE, || {
        replica
            .log()
            .contains("failed to watch every ServiceAccount")
    })
    .unwrap();
    assert_eq!(readiness(&replica).0, 200);
    cluster.start_api_server().unwrap();
    release.called().unwrap();
    cluster
        .service_account(&release.target, "after", &ANNOTATED)
        .unwrap();
    let created = release.create("after", false).unwrap();
    assert!(injected(&created.body), "{}", created.message());
}

#[test]
fn what_changes_after_etcd_was_restored_to_an_older_revision_is_seen() {
    let cluster = ControlPlane::new().unwrap();
    let release = release(&cluster, "restored");
    let replica = release.injector(&[]).unwrap();
    let annotated = |name: &str, inject: &str| {
        let annotations = [("caios.coreweave.com/inject", inject)];
        let made = cluster.service_account(&release.target, name, &annotations);
        made.unwrap();
    };
    let injects = |name: &str| injected(&release.create(name, false).unwrap().body);
    let until_known = |accounts: f64| {
        wait::until("the watch has shown them", PATIENCE, || {
            let known = metric(&replica, "caios_injector_serviceaccounts");
            (known - accounts).abs() < 0.5
        })
        .unwrap();
    };
    annotated("changed", "true");
    assert!(injects("changed"));
    let before = metric(&replica, "caios_injector_serviceaccounts");
    cluster.save_store().unwrap();
    // The watch sees versions that the store will not reach again for long.
    for number in 0..100 {
        annotated(&format!("lost-{number}"), "true");
    }
    until_known(before + 100.0);

    cluster.restore_store().unwrap();
    release.called().unwrap();
    annotated("changed", "false");
    annotated("new", "true");
    // That a ServiceAccount asks is believed without a question, so it must be known that it does not.
    wait::until("the annotation is seen", PATIENCE, || !injects("changed")).unwrap();
    until_known(before + 1.0);
    assert!(injects("new"));
    release.set_bundles([None, None]).unwrap();
    wait::until("caBundle is put right", PATIENCE, || {
        release.is_published().unwrap()
    })
    .unwrap();
}

#[test]
fn a_roll_out_under_load_loses_no_review() {
    let release = release(ControlPlane::shared(), "rolled");
    let mut old = release.injector(&[]).unwrap();
    let load = Load::start(&release);
    for _ in 0..2 {
        let mut new = release.start(&[]).unwrap();
        new.ready().unwrap();
        assert!(old.roll_out().unwrap().success());
        old = new;
    }
    load.end_without_failure();
}

#[test]
fn a_given_certificate_is_taken_over_when_its_files_change() {
    let release = release(ControlPlane::shared(), "given");
    let files = release.cluster().directory().join(&release.webhooks);
    std::fs::create_dir(&files).unwrap();
    let give = || {
        let name = format!("caios-injector.{}.svc", release.namespace);
        let made = rcgen::generate_simple_self_signed([name]).unwrap();
        std::fs::write(files.join("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(files.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        let bundle = json!(k8s_openapi::ByteString(made.cert.pem().into()));
        release.set_bundles([bundle.as_str(); 2]).unwrap();
    };
    give();
    let directory = format!("--certificate-directory={}", files.display());
    let flags = ["--certificates=directory", &directory];
    let injector = release.injector(&flags).unwrap();
    // The API server closes its connections to a webhook whose configuration has changed.
    give();
    wait::until("the second is served", PATIENCE, || {
        injector.log().matches("serving a certificate").count() == 2
    })
    .unwrap();
    release.called().unwrap();
    assert_eq!(release.secret().unwrap(), Value::Null, "nothing is written");
}

#[test]
fn hostile_clients_and_huge_reviews_stop_no_review() {
    let release = release(ControlPlane::shared(), "hostile");
    let replica = release.injector(&["--max-review-bytes=65536"]).unwrap();
    let load = Load::start(&release);
    let address = replica.address();
    let cluster = release.cluster();
    let held = cluster.run(async move {
        let mut held = Vec::new();
        for number in 0..200 {
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            let bytes: &[u8] = [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"][number % 3];
            tokio::io::AsyncWriteExt::write_all(&mut client, bytes)
                .await
                .unwrap();
            held.push(client);
        }
        held
    });
    let huge = cluster.create(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": release.target,
            "name": "huge",
            "annotations": { "example.com/large": "x".repeat(100_000) },
        },
        "spec": { "containers": [{ "name": "main", "image": "app.invalid/app" }] },
    }));
    let huge = huge.unwrap();
    assert_eq!(huge.code, 201, "an optional Pod starts: {}", huge.message());
    assert!(!injected(&huge.body));
    let too_large = r#"caios_injector_reviews_total{decision="too_large"}"#;
    assert!(metric(&replica, too_large) >= 1.0);
    wait::until("failed handshakes are counted", PATIENCE, || {
        metric(&replica, "caios_injector_handshake_failures_total") >= 60.0
    })
    .unwrap();
    load.end_without_failure();
    cluster.run(async move { drop(held) });
}
