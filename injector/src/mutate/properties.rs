//! What holds for every Pod, whatever is in it.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{Decision, Delivery, EnrolmentMode, PodSecurity, PullPolicy, Resources};
use super::{Settings, Subject, Verdict, VolumeChoice, mutate};

pub(super) fn settings(delivery: Delivery) -> Settings {
    Settings {
        image: "caios:1".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        resources: Resources {
            cpu: "100m".to_owned(),
            memory: "32Mi".to_owned(),
        },
        audience: "https://issuer.example".to_owned(),
        additional_audiences: [].into(),
        api_audiences: ["https://issuer.example".to_owned()].into(),
        token_expiration: 86_400,
        region: Some("US-EAST-04A".to_owned()),
        s3_endpoint: Some("http://cwlota.com".to_owned()),
        delivery,
        volume: VolumeChoice::Auto,
        csi: true,
        port: 27169,
        enrolment_mode: EnrolmentMode::Reown,
        public_directory: "/run/caios-agent/public".to_owned(),
        relay_runtime_classes: ["gvisor".to_owned()].into(),
        unsupported_runtime_classes: ["kata".to_owned()].into(),
    }
}

/// Names and values that mean something here, so that most Pods have some trouble.
fn variable() -> impl Strategy<Value = Value> {
    let names = select(vec![
        "HOME",
        "HTTP_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    ]);
    let values = select(vec![
        "",
        "x",
        "10.0.0.0/8,.svc",
        "127.0.0.1",
        "*",
        "http://127.0.0.1:27169/v1/credentials",
        "/var/run/secrets/caios.coreweave.com/serviceaccount/token",
    ]);
    (names, option::weighted(0.8, values)).prop_map(|(name, value)| match value {
        Some(value) => json!({"name": name, "value": value}),
        None => json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}),
    })
}

fn mount() -> impl Strategy<Value = Value> {
    let paths = select(vec![
        "/data",
        "/run/caios-agent/public",
        "/var/run/secrets/caios.coreweave.com/serviceaccount",
        "/var/run/secrets/caios.coreweave.com/serviceaccount/token",
    ]);
    (select(vec!["data", "caios-token", "caios-agent"]), paths)
        .prop_map(|(name, path)| json!({"name": name, "mountPath": path}))
}

fn container() -> impl Strategy<Value = Value> {
    let names = select(vec!["app", "app", "app", "logger", "caios-enroll"]);
    let lists = (
        option::weighted(0.7, vec(variable(), 0..4)),
        option::weighted(0.5, vec(mount(), 0..2)),
        option::of(select(vec![0i64, 1000])),
    );
    (names, lists, any::<bool>()).prop_map(|(name, (env, mounts, user), unknown)| {
        let mut container = json!({"name": name, "env": env, "volumeMounts": mounts});
        if let Some(user) = user {
            container["securityContext"] = json!({"runAsUser": user});
        }
        if unknown {
            container["fieldOfTheFuture"] = json!({"deep": [1, {"er": null}]});
        }
        container
    })
}

fn volume() -> impl Strategy<Value = Value> {
    select(vec![
        json!({"name": "data", "emptyDir": {}}),
        json!({"name": "data", "emptyDir": {}}),
        json!({"name": "caios-agent", "hostPath": {"path": "/run/caios-agent/public"}}),
        json!({"name": "caios-agent", "csi": {"driver": "csi.caios.coreweave.com", "readOnly": true}}),
        json!({"name": "caios-token", "emptyDir": {}}),
    ])
}

fn annotations() -> impl Strategy<Value = Value> {
    let values = select(vec![
        "", "true", "false", "app", "600", "relay", "direct", "hostPath", "8080", "\n",
    ]);
    let names = select(vec![
        "inject",
        "skip-containers",
        "token-expiration",
        "delivery",
        "volume",
        "wait-for-credentials",
        "port",
    ]);
    proptest::collection::btree_map(names, values, 0..3).prop_map(|annotations| {
        annotations
            .into_iter()
            .map(|(name, value)| (format!("caios.coreweave.com/{name}"), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    })
}

fn pod() -> impl Strategy<Value = Value> {
    (
        annotations(),
        option::of(vec(container(), 0..3)),
        vec(container(), 1..4),
        option::of(vec(volume(), 0..2)),
        option::weighted(0.2, select(vec!["gvisor", "kata"])),
    )
        .prop_map(
            |(annotations, init_containers, containers, volumes, class)| {
                json!({
                    "metadata": {"name": "p", "annotations": annotations},
                    "spec": {
                        "initContainers": init_containers,
                        "containers": containers,
                        "volumes": volumes,
                        "runtimeClassName": class,
                        "fieldOfTheFuture": true,
                    },
                })
            },
        )
}

/// Any JSON at all, with names that lead the code on.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let keys = select(vec![
        "metadata",
        "annotations",
        "labels",
        "spec",
        "containers",
        "initContainers",
        "volumes",
        "env",
        "volumeMounts",
        "name",
        "value",
        "mountPath",
        "securityContext",
        "runAsUser",
        "caios.coreweave.com/inject",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((keys.clone(), inner), 0..6).prop_map(|members| {
                let members = members.into_iter();
                Value::Object(
                    members
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

fn decide(pod: &Value, required: bool, delivery: Delivery, draw: u32) -> Verdict {
    let service_account = BTreeMap::from([("inject".to_owned(), "true".to_owned())]);
    let subject = Subject {
        pod,
        service_account: &service_account,
        pod_security: PodSecurity::Baseline,
        required,
        draw,
    };
    mutate(&subject, &settings(delivery))
}

fn patched(pod: &Value, verdict: &Verdict) -> Value {
    let patch: json_patch::Patch =
        serde_json::from_value(Value::Array(verdict.patch.clone())).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

/// Whether all that was in `before` is in `after`, in its order; a list of exceptions from the
/// proxy may have grown.
fn keeps(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().all(|(key, value)| {
            let is_exceptions = key == "value"
                && before
                    .get("name")
                    .and_then(Value::as_str)
                    .is_some_and(|name| name.eq_ignore_ascii_case("no_proxy"));
            after
                .get(key)
                .is_some_and(|now| keeps(value, now) || (is_exceptions && has_grown(value, now)))
        }),
        (Value::Array(before), Value::Array(after)) => {
            let mut rest = after.iter();
            before
                .iter()
                .all(|item| rest.any(|candidate| keeps(item, candidate)))
        }
        (Value::Null, Value::Array(_)) => true,
        (before, after) => before == after,
    }
}

fn has_grown(before: &Value, after: &Value) -> bool {
    let (Some(before), Some(after)) = (before.as_str(), after.as_str()) else {
        return false;
    };
    after == "127.0.0.1" && before.is_empty() || *after == format!("{before},127.0.0.1")
}

fn deliveries() -> impl Strategy<Value = Delivery> {
    select(vec![Delivery::Handoff, Delivery::Relay, Delivery::Direct])
}

proptest! {
    #[test]
    fn a_second_run_changes_nothing(
        pod in pod(),
        required: bool,
        delivery in deliveries(),
        draws: (u32, u32),
    ) {
        let first = decide(&pod, required, delivery, draws.0);
        prop_assert_eq!(first.decision == Decision::Injected, !first.patch.is_empty());
        let once = patched(&pod, &first);
        let second = decide(&once, required, delivery, draws.1);
        prop_assert!(second.patch.is_empty(), "{:?}", second.patch);
        let expected = match first.decision {
            Decision::Injected => Decision::Unchanged,
            other => other,
        };
        prop_assert_eq!(second.decision, expected);
        prop_assert_eq!(second.warnings, first.warnings);
    }

    #[test]
    fn what_another_webhook_adds_later_is_injected_and_nothing_else_changes(
        pod in pod(),
        sidecar in container(),
        delivery in deliveries(),
    ) {
        let first = decide(&pod, false, delivery, 0);
        let mut changed = patched(&pod, &first);
        changed["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
        let place = changed["spec"]["containers"].as_array().unwrap().len() - 1;
        let second = decide(&changed, false, delivery, 1);
        if first.decision == Decision::Injected {
            for operation in &second.patch {
                let path = operation["path"].as_str().unwrap();
                let of_sidecar = format!("/spec/containers/{place}/");
                prop_assert!(path.starts_with(&of_sidecar), "{path}");
            }
        }
        prop_assert!(keeps(&changed, &patched(&changed, &second)));
    }

    #[test]
    fn nothing_of_the_user_is_removed_or_changed(
        pod in pod(),
        required: bool,
        delivery in deliveries(),
        draw: u32,
    ) {
        let verdict = decide(&pod, required, delivery, draw);
        prop_assert!(verdict.patch.iter().all(|operation| operation["op"] == "add"));
        let after = patched(&pod, &verdict);
        prop_assert!(keeps(&pod, &after), "{after:#}");
    }

    #[test]
    fn only_a_required_pod_is_refused_and_always_with_a_reason(
        pod in pod(),
        required: bool,
        delivery in deliveries(),
    ) {
        let verdict = decide(&pod, required, delivery, 0);
        prop_assert_eq!(verdict.refusal.is_some(), verdict.decision == Decision::Refused);
        let starts_without = matches!(
            verdict.decision,
            Decision::NotAsked | Decision::OptedOut | Decision::Skipped
        );
        prop_assert!(!(required && starts_without), "{:?}", verdict.decision);
        prop_assert!(required || verdict.decision != Decision::Refused);
    }

    #[test]
    fn warnings_fit_into_headers(pod in pod(), delivery in deliveries()) {
        let verdict = decide(&pod, false, delivery, 0);
        prop_assert!(verdict.warnings.len() <= 20);
        for warning in verdict.warnings {
            prop_assert!(warning.len() <= 250, "{warning}");
            prop_assert!(!warning.contains(char::is_control), "{warning}");
        }
    }

    #[test]
    fn any_json_has_a_verdict(pod in anything(), required: bool, draw: u32) {
        let verdict = decide(&pod, required, Delivery::Handoff, draw);
        patched(&pod, &verdict);
    }
}
