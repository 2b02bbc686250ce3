//! What a person reads, from documents with given times.

use jiff::Timestamp;

use super::*;

fn at(text: &str) -> Timestamp {
    format!("2026-11-25T{text}Z").parse().unwrap()
}

/// A node on which all is well, at three in the morning.
fn well() -> Document {
    Document {
        version: "1.2.3".to_owned(),
        node: Some("node-a".to_owned()),
        now: at("03:00:00"),
        started_at: at("00:30:00"),
        worker_restarts: 0,
        panics: 0,
        readiness: vec![Requirement {
            name: "issuer keys".to_owned(),
            holds: true,
        }],
        issuer_keys: IssuerKeys {
            source: "https://kubernetes.default.svc".to_owned(),
            issuer: Some("https://issuer.example".to_owned()),
            count: 2,
            failure: None,
        },
        coreweave: CoreWeave {
            url: "https://api.coreweave.com/".to_owned(),
            breaker: Breaker::Closed,
            next_probe_at: None,
            throttled_until: None,
            exchanges: 0,
            max_exchanges: 16,
            short_lived_identities: 0,
        },
        held_requests: 0,
        connections: 12,
        identities: vec![Identity {
            principal: "role/https://issuer.example:system:serviceaccount:research:trainer"
                .to_owned(),
            service_account: "research/trainer".to_owned(),
            audience: "aud".to_owned(),
            key: Some(Key {
                received_at: Some(at("01:58:00")),
                expires_at: at("07:58:00"),
            }),
            next_exchange_at: Some(at("04:55:00")),
            pods: 1,
            held_requests: 0,
            without_token: false,
            failure: None,
        }],
        pods: vec![PodLine {
            namespace: "research".to_owned(),
            name: "train-0".to_owned(),
            uid: "1".to_owned(),
            service_account: "trainer".to_owned(),
            listeners: vec!["127.0.0.1:27169".to_owned(), "[::1]:27169".to_owned()],
            since: at("01:57:30"),
            last_error: None,
        }],
        unserved_pods: Some(Vec::new()),
        problems: Vec::new(),
    }
}

fn with_problems(mut document: Document) -> Document {
    document.problems = advice::problems(&document);
    document
}

/// The one problem of a document.
fn problem(document: Document) -> String {
    let problems = with_problems(document).problems;
    let [problem] = problems.as_slice() else {
        panic!("not one problem: {problems:?}");
    };
    format!("{} / {}", problem.what, problem.remedy)
}

fn failing(is_refusal: bool, message: &str) -> Document {
    let mut document = well();
    document.identities[0].failure = Some(Failure {
        at: at("02:59:20"),
        is_refusal,
        message: message.to_owned(),
    });
    document.identities[0].next_exchange_at = Some(at("03:00:12"));
    document
}

#[test]
fn a_node_on_which_all_is_well_fits_on_one_screen() {
    let expected = "\
caios-agent 1.2.3 on node-a: ready, up 2h 30m, 0 worker restarts
issuer     2 keys of https://issuer.example from https://kubernetes.default.svc
CoreWeave  breaker closed, 0 of 16 exchanges under way, https://api.coreweave.com/
keys       1 in memory, the first expires in 4h 58m
serving    1 Pods, 12 connections, 0 requests held

No problem is known.

IDENTITY          KEY AGE  EXPIRES IN  NEXT EXCHANGE  PODS  STATE
research/trainer  1h 2m    4h 58m      in 1h 55m      1     good

POD               SERVICE ACCOUNT  LISTENER                     SINCE  LAST ERROR
research/train-0  trainer          127.0.0.1:27169 [::1]:27169  1h 2m  –
";
    assert_eq!(render(&with_problems(well())), expected);
}

#[test]
fn an_outage_says_how_long_it_goes_unnoticed_and_that_nothing_must_be_restarted() {
    let mut document = failing(false, "no connection to https://api.coreweave.com/");
    document.coreweave.breaker = Breaker::Open;
    document.coreweave.next_probe_at = Some(at("03:00:09"));
    let text = render(&with_problems(document));
    for said in [
        "BREAKER OPEN",
        "! CoreWeave's API at https://api.coreweave.com/ does not answer; the next probe is in 9s",
        "do: Pods whose keys are in memory notice nothing for 4h 58m. Nothing on this node has to be",
        "! research/trainer: the exchange failed 40s ago: no connection to",
        "do: its Pods notice nothing for 4h 58m; tried again in 12s by itself",
        "good, renewal fails",
    ] {
        assert!(text.contains(said), "`{said}` is not in:\n{text}");
    }
}

#[test]
fn a_refusal_says_who_has_to_change_something() {
    let mut document = failing(true, "CoreWeave refused keys to `x`: grant `y`");
    document.identities[0].key = None;
    let said = problem(document.clone());
    assert!(
        said.contains("grant `y` / its Pods get 403; change what the message names"),
        "{said}"
    );
    assert!(render(&document).contains("REFUSED"));
}

#[test]
fn a_node_that_is_not_ready_says_why_first() {
    let mut document = well();
    document.readiness[0].holds = false;
    document.issuer_keys = IssuerKeys {
        issuer: None,
        count: 0,
        failure: Some("connection refused".to_owned()),
        ..document.issuer_keys
    };
    let text = render(&with_problems(document));
    assert!(text.contains("NOT READY (issuer keys)"), "{text}");
    assert!(
        text.contains("no key of the issuer is loaded from"),
        "{text}"
    );
    assert!(text.contains("connection refused"), "{text}");
}

#[test]
fn the_recent_error_of_a_pod_is_a_problem_and_an_old_one_is_history() {
    let mut document = well();
    let error = |time| Refusal {
        at: at(time),
        status: 401,
        message: "the token expired".to_owned(),
    };
    document.pods[0].last_error = Some(error("02:58:00"));
    let said = problem(document.clone());
    assert!(
        said.starts_with("Pod research/train-0 got HTTP 401 in place of credentials 2m ago"),
        "{said}"
    );
    assert!(said.ends_with("/ the token expired"), "{said}");
    document.pods[0].last_error = Some(error("01:00:00"));
    let document = with_problems(document);
    assert!(document.problems.is_empty());
    assert!(render(&document).contains("401, 2h ago"));
}

#[test]
fn a_pod_that_was_told_of_its_identitys_failure_is_no_second_problem() {
    let mut document = failing(true, "CoreWeave refused");
    for message in [
        "CoreWeave refused",
        "no credentials within 8 s: CoreWeave refused",
        "Core…",
    ] {
        document.pods[0].last_error = Some(Refusal {
            at: at("02:59:00"),
            status: 403,
            message: message.to_owned(),
        });
        assert!(problem(document.clone()).starts_with("research/trainer: the exchange failed"));
    }
}

#[test]
fn pods_that_are_not_served_are_listed_with_the_reason_and_the_cure() {
    let mut document = well();
    for (name, reason, why) in [
        ("lost-0", UnservedReason::ListenerLost, "no listener"),
        (
            "elsewhere-0",
            UnservedReason::ListenerRejected,
            "listener refused",
        ),
        ("missed-0", UnservedReason::NotInjected, "not injected"),
    ] {
        let pod = UnservedView {
            namespace: "research".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            service_account: "trainer".to_owned(),
            reason,
        };
        let remedy = advice::for_unserved(&pod);
        assert!(remedy.contains(&format!("kubectl -n research delete pod {name}")));
        document.unserved_pods = Some(vec![Unserved { pod, remedy }]);
        assert!(problem(document.clone()).starts_with("1 Pods "));
        let text = render(&document);
        for said in ["POD THAT IS NOT SERVED", &format!("research/{name}"), why] {
            assert!(text.contains(said), "`{said}` is not in:\n{text}");
        }
    }
    document.unserved_pods = None;
    assert!(!render(&document).contains("NOT SERVED"));
}

#[test]
fn crashes_panics_throttling_and_short_keys_are_told() {
    for (change, words) in [
        (
            (|document| document.worker_restarts = 3) as fn(&mut Document),
            "started again 3 times",
        ),
        (
            |document| document.panics = 2,
            "2 tasks of the agent panicked",
        ),
        (
            |document| document.coreweave.throttled_until = Some(at("03:01:00")),
            "renewals pause for 1m",
        ),
        (
            |document| document.coreweave.short_lived_identities = 1,
            "keys of 15 minutes",
        ),
        (
            |document| document.identities[0].without_token = true,
            "no Pod has a valid",
        ),
    ] {
        let mut document = well();
        change(&mut document);
        let said = problem(document);
        assert!(said.contains(words), "`{words}` is not in: {said}");
    }
}

#[test]
fn a_document_survives_its_form() {
    let document = with_problems(failing(false, "x"));
    let text = serde_json::to_string(&document).unwrap();
    assert_eq!(read("admin.sock".as_ref(), &text).unwrap(), document);
}
