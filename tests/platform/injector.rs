//! The injector on a real API server, with the rights that the chart gives it.

mod installation;
mod load;

use serde_json::json;
use tests::control_plane::ControlPlane;
use tests::wait;

use self::installation::{Installation, PATIENCE, is_injected};
use self::load::Load;

const ANNOTATED: [(&str, &str); 1] = [("caios.coreweave.com/inject", "true")];

#[test]
fn two_replicas_agree_on_one_authority_and_repair_its_bundle() {
    let installed = Installation::new(ControlPlane::shared());
    let replicas = [installed.spawn(&[]), installed.spawn(&[])];
    let replicas = replicas.map(installation::Replica::ready);
    let namespace = installed.namespace("two");
    installed.until_called(&namespace);
    assert!(installed.is_published());
    let expiry = "caios_injector_certificate_expiry_timestamp_seconds";
    let [one, other] = [&replicas[0], &replicas[1]].map(|replica| replica.metric(expiry));
    assert!((one - other).abs() < f64::EPSILON, "{one} {other}");

    let authority = installed.secret()["ca.crt"].clone();
    let path = installed.configuration_path();
    let mut configuration = installed.cluster.get(&path).unwrap().body;
    for (entry, bundle) in [(0, json!(null)), (1, authority.clone())] {
        configuration["webhooks"][entry]["clientConfig"]["caBundle"] = bundle;
    }
    let overwritten = json!({ "webhooks": configuration["webhooks"] });
    installed
        .cluster
        .merge(&path, &overwritten)
        .unwrap()
        .accepted()
        .unwrap();
    wait::until("caBundle is right again", PATIENCE, || {
        installed.is_published()
    })
    .unwrap();
    assert_eq!(
        installed.secret()["ca.crt"],
        authority,
        "the authority stays"
    );
    let repairs: f64 = replicas
        .iter()
        .map(|replica| replica.metric("caios_injector_ca_bundle_repairs_total"))
        .sum();
    assert!(repairs >= 2.0, "at first and now: {repairs}");
}

#[test]
fn what_makes_no_sense_in_the_secret_is_replaced_without_a_lost_review() {
    let installed = Installation::new(ControlPlane::shared());
    let replica = installed.spawn(&["--certificate-lifetime=1h"]).ready();
    let _second = installed.spawn(&["--certificate-lifetime=1h"]).ready();
    let namespace = installed.namespace("garbage");
    installed.until_called(&namespace);
    let first = installed.secret()["tls.crt"].clone();
    let load = Load::start(&installed, &namespace);

    let garbage = json!({ "data": { "ca.crt": "Z2FyYmFnZQ==", "tls.key": null } });
    let changed = installed.cluster.merge(&installed.secret_path(), &garbage);
    changed.unwrap().accepted().unwrap();
    wait::until("there is another certificate", PATIENCE, || {
        let now = installed.secret()["tls.crt"].clone();
        now.is_string() && now != first && installed.is_published()
    })
    .unwrap();
    wait::until("it is served", PATIENCE, || {
        replica.log().matches("serving a certificate").count() == 2
    })
    .unwrap();

    // Deleted, and made again by the chart.
    installed
        .cluster
        .delete(&installed.secret_path())
        .unwrap()
        .accepted()
        .unwrap();
    wait::until("the log says what to do", PATIENCE, || {
        replica.log().contains("`helm upgrade` makes it again")
    })
    .unwrap();
    installed.make_secret();
    wait::until("it is full again", PATIENCE, || installed.is_published()).unwrap();
    load.end_without_failure();
    assert!(!replica.log().contains("PRIVATE KEY"));
}

#[test]
fn certificate_and_authority_are_rotated_under_load_without_a_failed_review() {
    let installed = Installation::new(ControlPlane::shared());
    let short = ["--certificate-lifetime=10s", "--ca-lifetime=20s"];
    let replicas = [installed.spawn(&short), installed.spawn(&short)];
    let replicas = replicas.map(installation::Replica::ready);
    let namespace = installed.namespace("rotated");
    installed.until_called(&namespace);
    let load = Load::start(&installed, &namespace);
    let mut authorities = vec![installed.secret()["ca.crt"].clone()];
    wait::until("authorities have come and gone", 2 * PATIENCE, || {
        let now = installed.secret()["ca.crt"].clone();
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
    let installed = Installation::new(ControlPlane::shared());
    let namespace = installed.namespace("down");
    let replica = installed.spawn(&[]).ready();
    installed.until_called(&namespace);
    replica.kill();
    let started = installed.create(&namespace, "default", false).unwrap();
    assert_eq!(started.code, 201, "{}", started.message());
    let refused = installed.create(&namespace, "default", true).unwrap();
    assert_eq!(refused.code, 500);
    let names = refused.message().contains("required.caios.coreweave.com");
    assert!(names, "{}", refused.message());
}

#[test]
fn a_service_account_made_in_the_same_second_as_its_pod_is_always_seen() {
    let installed = Installation::new(ControlPlane::shared());
    let namespace = installed.namespace("fresh");
    let _replica = installed.spawn(&[]).ready();
    installed.until_called(&namespace);
    for number in 0..100 {
        let name = format!("fresh-{number}");
        // Half of them are annotated by a second call, as `kubectl annotate` does.
        if number % 2 == 0 {
            installed
                .cluster
                .service_account(&namespace, &name, &[])
                .unwrap();
        }
        installed
            .cluster
            .service_account(&namespace, &name, &ANNOTATED)
            .unwrap();
        let created = installed.create(&namespace, &name, false).unwrap();
        assert!(is_injected(&created), "{name}: {}", created.message());
    }
}

#[test]
fn without_its_rights_the_injector_says_so_and_waits() {
    let installed = Installation::new(ControlPlane::shared());
    installed.forbid();
    let replica = installed.spawn(&[]);
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
    let (status, unmet) = replica.admin("/readyz");
    assert_eq!(status, 503);
    assert_eq!(
        unmet,
        "service accounts\nnamespaces\ncertificate\ncaBundle\n"
    );
    assert_eq!(replica.admin("/livez").0, 200);
    installed.allow();
    let replica = replica.ready();

    // Lost again: what it knows goes on to be served.
    let namespace = installed.namespace("forbidden");
    installed.until_called(&namespace);
    installed
        .cluster
        .service_account(&namespace, "known", &ANNOTATED)
        .unwrap();
    assert!(is_injected(
        &installed.create(&namespace, "known", false).unwrap()
    ));
    installed.forbid();
    assert_eq!(replica.admin("/readyz").0, 200);
    assert!(is_injected(
        &installed.create(&namespace, "known", false).unwrap()
    ));
}

#[test]
fn the_injector_outlives_the_api_server() {
    let cluster = ControlPlane::new().unwrap();
    let installed = Installation::new(&cluster);
    let replica = installed.spawn(&[]).ready();
    let namespace = installed.namespace("restarted");
    installed.until_called(&namespace);
    cluster.stop_api_server();
    wait::until("the watch has failed", PATIENCE, || {
        replica
            .log()
            .contains("failed to watch every ServiceAccount")
    })
    .unwrap();
    assert_eq!(replica.admin("/readyz").0, 200);
    cluster.start_api_server().unwrap();
    installed.until_called(&namespace);
    cluster
        .service_account(&namespace, "after", &ANNOTATED)
        .unwrap();
    let created = installed.create(&namespace, "after", false).unwrap();
    assert!(is_injected(&created), "{}", created.message());
}

#[test]
fn a_roll_out_under_load_loses_no_review() {
    let installed = Installation::new(ControlPlane::shared());
    let namespace = installed.namespace("rolled");
    let mut old = installed.spawn(&[]).ready();
    installed.until_called(&namespace);
    let load = Load::start(&installed, &namespace);
    for _ in 0..2 {
        let new = installed.spawn(&[]).ready();
        assert!(old.roll_out().success());
        old = new;
    }
    load.end_without_failure();
}

#[test]
fn a_given_certificate_is_taken_over_when_its_files_change() {
    let installed = Installation::new(ControlPlane::shared());
    let files = installed.cluster.directory().join(&installed.webhooks);
    std::fs::create_dir(&files).unwrap();
    let give = || {
        let name = format!("caios-injector.{}.svc", installed.release);
        let made = rcgen::generate_simple_self_signed([name]).unwrap();
        std::fs::write(files.join("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(files.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        installed.publish(&made.cert.pem());
    };
    give();
    let directory = format!("--certificate-directory={}", files.display());
    let replica = installed
        .spawn(&["--certificates=directory", &directory])
        .ready();
    let namespace = installed.namespace("given");
    installed.until_called(&namespace);
    // The API server closes its connections to a webhook whose configuration has changed.
    give();
    wait::until("the second is served", PATIENCE, || {
        replica.log().matches("serving a certificate").count() == 2
    })
    .unwrap();
    installed.until_called(&namespace);
    assert!(!installed.secret().is_object(), "nothing is written");
}

#[test]
fn hostile_clients_and_huge_reviews_stop_no_review() {
    let installed = Installation::new(ControlPlane::shared());
    let replica = installed.spawn(&["--max-review-bytes=65536"]).ready();
    let namespace = installed.namespace("hostile");
    installed.until_called(&namespace);
    let load = Load::start(&installed, &namespace);
    let address = replica.listen;
    let held = installed.cluster.run(async move {
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
    let huge = installed.cluster.create(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": namespace,
            "name": "huge",
            "annotations": { "example.com/large": "x".repeat(100_000) },
        },
        "spec": { "containers": [{ "name": "main", "image": "app.invalid/app" }] },
    }));
    let huge = huge.unwrap();
    assert_eq!(huge.code, 201, "an optional Pod starts: {}", huge.message());
    assert!(!is_injected(&huge));
    let too_large = r#"caios_injector_reviews_total{decision="too_large"}"#;
    assert!(replica.metric(too_large) >= 1.0);
    wait::until("failed handshakes are counted", PATIENCE, || {
        replica.metric("caios_injector_handshake_failures_total") >= 60.0
    })
    .unwrap();
    load.end_without_failure();
    installed.cluster.run(async move { drop(held) });
}

#[test]
fn five_thousand_service_accounts_take_little_memory() {
    let installed = Installation::new(ControlPlane::shared());
    let namespace = installed.namespace("many");
    let (cluster, into) = (installed.cluster, namespace.clone());
    let client = cluster.client();
    cluster.run(async move {
        let accounts: kube::Api<k8s_openapi::api::core::v1::ServiceAccount> =
            kube::Api::namespaced(client, &into);
        for number in 0..5_000 {
            let account = json!({
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {
                    "name": format!("account-{number}"),
                    "annotations": {
                        "caios.coreweave.com/audience": "https://coreweave.example",
                        "example.com/of-no-interest": "x".repeat(200),
                    },
                },
            });
            let account = serde_json::from_value(account).unwrap();
            accounts
                .create(&kube::api::PostParams::default(), &account)
                .await
                .unwrap();
        }
    });
    let replica = installed.spawn(&[]).ready();
    assert!(replica.metric("caios_injector_serviceaccounts") >= 5_000.0);
    let resident = replica.metric("process_resident_memory_bytes") / 1e6;
    println!("resident with 5,000 ServiceAccounts: {resident:.1} MB");
    assert!(resident < 64.0, "{resident} MB");
}
