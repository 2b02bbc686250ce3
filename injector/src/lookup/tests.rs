//! A scripted API behind kube's own client; time is paused.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PartialObjectMeta;
use kube::client::Body;
use kube::core::PartialObjectMetaExt as _;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::mutate::PodSecurity::{Baseline, Privileged, Restricted};

const DEADLINE: Duration = Duration::from_secs(4);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// An API that counts its calls and answers, when it may, what `answer` says; [`LOST`] is none.
struct Script {
    calls: AtomicUsize,
    may: Notify,
    answer: fn(usize) -> (u16, Value),
    holds: bool,
}

/// The code of a call whose connection breaks off.
const LOST: u16 = 0;

fn found(annotations: &Value) -> (u16, Value) {
    let metadata = json!({ "namespace": "n", "name": "app", "annotations": annotations });
    let version = "meta.k8s.io/v1";
    (
        200,
        json!({ "apiVersion": version, "kind": "PartialObjectMetadata", "metadata": metadata }),
    )
}

fn refused(code: u16, message: &str) -> (u16, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message,
        "reason": if code == 404 { "NotFound" } else { "Forbidden" },
    });
    (code, status)
}

fn annotated() -> (u16, Value) {
    found(&json!({ "caios.coreweave.com/audience": "a", "other.example/x": "y" }))
}

impl Script {
    fn lookup(
        answer: fn(usize) -> (u16, Value),
        holds: bool,
    ) -> (Arc<Self>, Arc<Lookup<ServiceAccounts>>) {
        let script = Arc::new(Self {
            calls: AtomicUsize::new(0),
            may: Notify::new(),
            answer,
            holds,
        });
        let api = Arc::clone(&script);
        let service = tower::service_fn(move |request: hyper::Request<Body>| {
            let api = Arc::clone(&api);
            async move {
                assert_eq!(
                    request.uri().path(),
                    "/api/v1/namespaces/n/serviceaccounts/app"
                );
                let call = api.calls.fetch_add(1, Ordering::Relaxed);
                if api.holds {
                    api.may.notified().await;
                }
                let (code, body) = (api.answer)(call);
                if code == LOST {
                    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                    return Err(kube::Error::Service(reset.into()));
                }
                let response = hyper::Response::builder().status(code);
                Ok::<_, kube::Error>(
                    response
                        .body(Body::from(body.to_string().into_bytes()))
                        .unwrap(),
                )
            }
        });
        let client = kube::Client::new(service, "default");
        (script, Lookup::new(client, 3, Clock::anchored(now())))
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

fn object(
    name: &str,
    age: Duration,
    annotations: &[(&str, &str)],
) -> PartialObjectMeta<ServiceAccount> {
    let annotations: BTreeMap<_, _> = annotations
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let age = SignedDuration::try_from(age).unwrap();
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("n".to_owned()),
        creation_timestamp: Some(Time(now() - age)),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
    .into_request_partial::<ServiceAccount>()
}

const OLD: Duration = Duration::from_hours(1);
const OURS: [(&str, &str); 1] = [("caios.coreweave.com/inject", "true")];

fn shown(lookup: &Lookup<ServiceAccounts>, objects: Vec<PartialObjectMeta<ServiceAccount>>) {
    lookup.memory.apply(Event::Init);
    for object in objects {
        lookup.memory.apply(Event::InitApply(object));
    }
    lookup.memory.apply(Event::InitDone);
}

/// The answer for `app`: whether it is annotated, or none, and where that came from.
async fn find(lookup: &Lookup<ServiceAccounts>) -> Result<(Option<bool>, Source), Unreadable> {
    let found = lookup
        .find(&Key::new("n", "app"), Instant::now() + DEADLINE)
        .await?;
    let annotated = found.value.map(|value| !value.as_map().is_empty());
    Ok((annotated, found.source))
}

#[tokio::test(start_paused = true)]
async fn what_is_annotated_is_believed_and_what_is_not_is_doubted_while_it_is_young() {
    let (script, lookup) = Script::lookup(|_call| annotated(), false);
    shown(&lookup, vec![object("app", Duration::ZERO, &OURS)]);
    assert_eq!(find(&lookup).await.unwrap(), (Some(true), Source::Cache));
    shown(
        &lookup,
        vec![object("app", OLD, &[("other.example/x", "y")])],
    );
    assert_eq!(find(&lookup).await.unwrap(), (Some(false), Source::Cache));
    assert_eq!(script.calls(), 0);
    shown(&lookup, vec![object("app", Duration::from_secs(59), &[])]);
    assert_eq!(find(&lookup).await.unwrap(), (Some(true), Source::Api));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(find(&lookup).await.unwrap(), (Some(false), Source::Cache));
    assert_eq!(script.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_watch_is_interrupted_a_negative_answer_is_doubted() {
    let (_script, lookup) = Script::lookup(|_call| annotated(), false);
    shown(&lookup, vec![object("app", OLD, &[])]);
    lookup.memory.interrupted();
    assert_eq!(find(&lookup).await.unwrap().1, Source::Api);
    tokio::time::advance(Duration::from_mins(3)).await;
    assert_eq!(find(&lookup).await.unwrap().1, Source::Cache);
    lookup.memory.interrupted();
    shown(&lookup, vec![object("app", OLD, &[])]);
    assert_eq!(find(&lookup).await.unwrap().1, Source::Cache, "listed anew");
}

#[tokio::test(start_paused = true)]
async fn a_doubted_answer_is_taken_when_the_api_is_slow_while_an_unknown_one_is_an_error() {
    let (script, lookup) = Script::lookup(|_call| annotated(), true);
    shown(&lookup, vec![object("app", Duration::ZERO, &[])]);
    let started = Instant::now();
    assert_eq!(
        find(&lookup).await.unwrap(),
        (Some(false), Source::Unconfirmed)
    );
    assert_eq!(started.elapsed(), CONFIRMATION);
    shown(&lookup, vec![]);
    let error = find(&lookup).await.unwrap_err().to_string();
    assert_eq!(started.elapsed(), CONFIRMATION + DEADLINE);
    assert!(error.contains("the ServiceAccount `n/app`"), "{error}");
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_once_share_one_call() {
    let (script, lookup) = Script::lookup(|_call| annotated(), true);
    let asking = futures_util::future::join_all((0..50).map(|_| find(&lookup)));
    let answered = async {
        while script.calls() == 0 {
            tokio::task::yield_now().await;
        }
        script.may.notify_waiters();
    };
    let (answers, ()) = tokio::join!(asking, answered);
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap().0 == Some(true))
    );
    assert_eq!(script.calls(), 1);
    // What has ended is not joined.
    script.may.notify_one();
    assert_eq!(find(&lookup).await.unwrap().1, Source::Api);
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_joined_a_call_that_found_nothing_asks_once_more() {
    // The ServiceAccount is annotated after the first call has read it.
    let answer = |call| {
        if call == 0 {
            found(&json!({}))
        } else {
            annotated()
        }
    };
    let (script, lookup) = Script::lookup(answer, true);
    let asking = futures_util::future::join(find(&lookup), find(&lookup));
    let answered = async {
        for call in 1..=2 {
            while script.calls() < call {
                tokio::task::yield_now().await;
            }
            script.may.notify_waiters();
        }
    };
    let ((first, second), ()) = tokio::join!(asking, answered);
    assert_eq!(first.unwrap().0, Some(false), "as it was when it asked");
    assert_eq!(second.unwrap().0, Some(true));
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_such_object_is_an_answer_and_a_refusal_is_an_error_that_says_why() {
    let (_script, lookup) = Script::lookup(|_call| refused(404, "not found"), false);
    assert_eq!(find(&lookup).await.unwrap(), (None, Source::Api));
    let (_script, lookup) = Script::lookup(|_call| refused(403, "no right to get"), false);
    let error = find(&lookup).await.unwrap_err().to_string();
    assert!(error.contains("no right to get (HTTP 403)"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_got_lost_on_its_way_is_asked_again_and_what_was_refused_is_not() {
    let answer = |call| {
        if call < 2 {
            (LOST, Value::Null)
        } else {
            annotated()
        }
    };
    let (script, lookup) = Script::lookup(answer, false);
    assert_eq!(find(&lookup).await.unwrap(), (Some(true), Source::Api));
    assert_eq!(script.calls(), 3);

    let (script, lookup) = Script::lookup(|_call| (LOST, Value::Null), false);
    let started = Instant::now();
    let error = find(&lookup).await.unwrap_err().to_string();
    assert!(error.contains("connection reset"), "{error}");
    assert!(started.elapsed() < DEADLINE);
    assert_eq!(script.calls(), 4);

    let (script, lookup) = Script::lookup(|_call| refused(403, "no right to get"), false);
    find(&lookup).await.unwrap_err();
    assert_eq!(script.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_would_lead_elsewhere_is_asked_of_nobody() {
    let (script, lookup) = Script::lookup(|_call| annotated(), false);
    for key in [
        Key::new("n", "../secrets/s"),
        Key::new("n/../m", "app"),
        Key::new("n", ""),
    ] {
        let found = lookup.find(&key, Instant::now() + DEADLINE).await.unwrap();
        assert_eq!(found.value, None);
    }
    assert_eq!(script.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn memory_follows_the_watch_within_its_bound() {
    let (_script, lookup) = Script::lookup(|_call| annotated(), false);
    assert!(!lookup.is_synced());
    let all = ["app", "b", "c", "d", "e"].map(|name| object(name, OLD, &OURS));
    shown(&lookup, all.to_vec());
    assert!(lookup.is_synced());
    assert_eq!(lookup.len(), 3);
    lookup.memory.apply(Event::Delete(object("app", OLD, &[])));
    assert_eq!(find(&lookup).await.unwrap().1, Source::Api);
    lookup.memory.apply(Event::Apply(object("app", OLD, &OURS)));
    assert_eq!(find(&lookup).await.unwrap().1, Source::Cache);
    // A new listing takes the place of the old one when it is complete.
    lookup.memory.apply(Event::Init);
    lookup
        .memory
        .apply(Event::InitApply(object("b", OLD, &OURS)));
    assert_eq!(find(&lookup).await.unwrap().1, Source::Cache);
    lookup.memory.apply(Event::InitDone);
    assert_eq!(lookup.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_api_server_has_vanished_is_soon_followed_by_another() {
    let watches = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&watches);
    let service = tower::service_fn(move |request: hyper::Request<Body>| {
        let list = json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": { "resourceVersion": "1" }, "items": [],
        });
        let body = if request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"))
        {
            seen.fetch_add(1, Ordering::Relaxed);
            let silence = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
            BoxBody::new(StreamBody::new(silence))
        } else {
            BoxBody::new(Full::new(Bytes::from(list.to_string())))
        };
        async { Ok::<_, kube::Error>(hyper::Response::new(body)) }
    });
    let client = kube::Client::new(service, "default");
    let lookup: Arc<Lookup<ServiceAccounts>> = Lookup::new(client, 3, Clock::anchored(now()));
    let lost = prometheus::IntCounter::new("lost", "Not registered.").unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let watching = lookup.keep(lost, stop);
    let three_minutes = Duration::from_mins(3);
    assert!(tokio::time::timeout(three_minutes, watching).await.is_err());
    assert!(lookup.is_synced());
    assert!(watches.load(Ordering::Relaxed) >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_young_namespace_that_enforces_nothing_is_asked_for_by_nobody() {
    let service = tower::service_fn(|_request: hyper::Request<Body>| async {
        Err::<hyper::Response<Body>, _>(kube::Error::LinesCodecMaxLineLengthExceeded)
    });
    let client = kube::Client::new(service, "default");
    let lookup: Arc<Lookup<Namespaces>> = Lookup::new(client, 3, Clock::anchored(now()));
    let young = ObjectMeta {
        name: Some("n".to_owned()),
        creation_timestamp: Some(Time(now())),
        ..ObjectMeta::default()
    };
    lookup.memory.apply(Event::Init);
    let young = young.into_request_partial::<k8s_openapi::api::core::v1::Namespace>();
    lookup.memory.apply(Event::InitApply(young));
    lookup.memory.apply(Event::InitDone);
    let (key, deadline) = (Key::new("", "n"), Instant::now() + DEADLINE);
    let found = lookup.find(&key, deadline).await.unwrap();
    assert_eq!(
        (found.value, found.source),
        (Some(Privileged), Source::Cache)
    );
}

#[test]
fn a_namespaces_level_is_read_from_its_label() {
    let value = |label: &str| {
        let labels = BTreeMap::from([(
            "pod-security.kubernetes.io/enforce".to_owned(),
            label.to_owned(),
        )]);
        Namespaces::value(&ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        })
    };
    assert_eq!(
        [value("baseline"), value("restricted")],
        [Baseline, Restricted]
    );
    assert_eq!(
        [value("privileged"), value("nonsense")],
        [Privileged, Privileged]
    );
}
