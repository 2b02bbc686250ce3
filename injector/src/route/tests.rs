//! What the API server gets, with a scripted API behind the lookups; time is paused.

use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::StatusCode;
use kube::client::Body as KubeBody;
use prometheus::Registry;
use serde_json::{Value, json};
use shared::clock::Clock;

use super::*;
use crate::config::{Config, RunArgs};
use crate::lookup::Lookup;

/// A route over an API that answers every call with `code`, or never.
fn route(code: Option<u16>, limits: &Limits) -> Route {
    route_over(move |_path| code, limits)
}

/// A route over an API that answers a call with what `code` says of its path, or never.
fn route_over(
    code: impl Fn(&str) -> Option<u16> + Copy + Send + 'static,
    limits: &Limits,
) -> Route {
    let service = tower::service_fn(move |request: Request<KubeBody>| async move {
        let Some(code) = code(request.uri().path()) else {
            return std::future::pending().await;
        };
        let reason = if code == 404 { "NotFound" } else { "Forbidden" };
        let status = json!({
            "kind": "Status", "status": "Failure", "code": code, "reason": reason,
            "message": "as scripted",
        });
        let body = KubeBody::from(status.to_string().into_bytes());
        Ok::<_, kube::Error>(Response::builder().status(code).body(body).unwrap())
    });
    let client = kube::Client::new(service, "default");
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let decide = Decide::new(
        settings(),
        Lookup::new(client.clone(), 10, Clock::system()),
        Lookup::new(client, 10, Clock::system()),
        metrics.service_account_lookups.clone(),
    );
    Route::new(Arc::new(decide), limits, metrics, CancellationToken::new())
}

fn settings() -> crate::mutate::Settings {
    use clap::{Args as _, Command, FromArgMatches as _};

    let flags = "run --image i --certificates directory --certificate-directory /tls --audience a";
    let matches = RunArgs::augment_args(Command::new("run")).get_matches_from(flags.split(' '));
    let args = RunArgs::from_arg_matches(&matches).unwrap();
    Config::new(&args).unwrap().injection.complete("", &[])
}

fn limits() -> Limits {
    Limits {
        timeout: Duration::from_secs(4),
        reviews: 4,
        bytes: 65_536,
    }
}

fn review(padding: usize) -> Bytes {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "namespace": "n",
            "operation": "CREATE",
            "object": {
                "metadata": { "generateName": "app-", "annotations": { "p": "x".repeat(padding) } },
                "spec": {
                    "serviceAccountName": "app",
                    "containers": [{ "name": "main", "image": "i" }],
                },
            },
        },
    });
    Bytes::from(review.to_string())
}

async fn ask(route: &Route, method: Method, path: &str, body: Bytes) -> (StatusCode, Bytes) {
    let body: BoxBody<Bytes, std::convert::Infallible> = BoxBody::new(Full::new(body));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(body)
        .unwrap();
    let (head, body) = route.answer(request).await.into_parts();
    (head.status, body.collect().await.unwrap().to_bytes())
}

async fn post(route: &Route, path: &str, body: Bytes) -> (StatusCode, Bytes) {
    ask(route, Method::POST, path, body).await
}

fn response(body: &Bytes) -> Value {
    let review: Value = serde_json::from_slice(body).unwrap();
    review["response"].clone()
}

#[tokio::test(start_paused = true)]
async fn what_is_no_review_gets_the_status_that_says_so() {
    let route = route(Some(404), &limits());
    for (method, path, body, status) in [
        (Method::POST, "/", review(0), 404),
        (Method::POST, "/mutate/", review(0), 404),
        (Method::GET, "/mutate", Bytes::new(), 405),
        (Method::POST, "/mutate", Bytes::from_static(b"{"), 400),
        (Method::POST, "/mutate", review(70_000), 413),
    ] {
        let (given, _) = ask(&route, method.clone(), path, body).await;
        assert_eq!(given, status, "{method} {path}");
    }
    assert_eq!(route.metrics.reviews.of(Outcome::Malformed).get(), 4);
    assert_eq!(route.metrics.reviews.of(Outcome::TooLarge).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_query_is_no_part_of_the_path_and_an_unknown_account_asks_for_nothing() {
    let route = route(Some(404), &limits());
    let (status, body) = post(&route, "/mutate?timeout=5s", review(0)).await;
    assert_eq!(status, 200);
    assert_eq!(response(&body), json!({ "uid": "u-1", "allowed": true }));
    let decided = Outcome::Decided(Decision::NotAsked);
    assert_eq!(route.metrics.reviews.of(decided).get(), 1);
    let (_, body) = post(&route, "/mutate/required?timeout=5s", review(0)).await;
    assert_eq!(response(&body)["patchType"], "JSONPatch");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_lets_an_optional_pod_start_and_refuses_a_required_one() {
    for code in [Some(403), None] {
        let route = route(code, &limits());
        let started = Instant::now();
        let (status, body) = post(&route, "/mutate", review(0)).await;
        assert_eq!(status, 200);
        let optional = response(&body);
        assert_eq!(optional["allowed"], true, "{code:?}");
        let warning = optional["warnings"][0].as_str().unwrap();
        assert!(
            warning.contains("ServiceAccount `n/app` could not be read"),
            "{warning}"
        );
        let (_, body) = post(&route, "/mutate/required", review(0)).await;
        let required = response(&body);
        assert_eq!(required["allowed"], false, "{code:?}");
        let message = required["status"]["message"].as_str().unwrap();
        assert!(
            message.contains("ServiceAccount `n/app` could not be read"),
            "{message}"
        );
        let elapsed = started.elapsed();
        assert!(elapsed <= 2 * limits().timeout, "{elapsed:?}");
        assert_eq!(route.metrics.reviews.of(Outcome::Unreadable).get(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_cannot_be_read_holds_no_pod_up_for_long() {
    let account_only = |path: &str| path.contains("/serviceaccounts/").then_some(404);
    let route = route_over(account_only, &limits());
    let started = Instant::now();
    let (_, body) = post(&route, "/mutate/required", review(0)).await;
    assert_eq!(response(&body)["patchType"], "JSONPatch");
    assert!(started.elapsed() < limits().timeout / 2);
}

#[tokio::test(start_paused = true)]
async fn more_reviews_at_once_than_allowed_wait_for_a_turn_but_not_for_ever() {
    let route = route(Some(404), &limits());
    let turns = route.reviews.acquire_many(4).await.unwrap();
    let started = Instant::now();
    assert_eq!(post(&route, "/mutate", review(0)).await.0, 503);
    assert_eq!(started.elapsed(), limits().timeout);
    assert_eq!(route.metrics.reviews.of(Outcome::Busy).get(), 1);
    let giving_back = async {
        tokio::time::sleep(limits().timeout / 2).await;
        drop(turns);
    };
    let asking = (0..6).map(|_| post(&route, "/mutate", review(0)));
    let (answers, ()) = tokio::join!(futures_util::future::join_all(asking), giving_back);
    assert!(answers.iter().all(|(status, _)| *status == 200));
}

#[tokio::test(start_paused = true)]
async fn bodies_that_do_not_end_are_given_up_and_their_memory_is_bounded() {
    let route = route(Some(404), &limits());
    let stalled = || {
        let first = Bytes::from(vec![b' '; 65_000]);
        let first = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(
            hyper::body::Frame::data(first),
        )]);
        let stream = first.chain(futures_util::stream::pending());
        let body = http_body_util::StreamBody::new(stream);
        let request = Request::builder().method(Method::POST).uri("/mutate");
        route.answer(request.body(body).unwrap())
    };
    let answers = futures_util::future::join_all((0..6).map(|_| stalled())).await;
    let of = |status: u16| {
        let mut statuses = answers.iter().map(|answer| answer.status().as_u16());
        statuses.by_ref().filter(|given| *given == status).count()
    };
    assert_eq!((of(504), of(503)), (4, 2));
    assert_eq!(post(&route, "/mutate", review(0)).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_would_take_too_much_memory_is_not_parsed() {
    let limits = Limits {
        bytes: 4 << 20,
        ..limits()
    };
    let route = route(Some(404), &limits);
    let body = format!("[{}0]", r#"{"":0},"#.repeat(500_000));
    let (status, text) = post(&route, "/mutate", Bytes::from(body)).await;
    assert_eq!(status, 413);
    assert!(text.ends_with(b"it would take over 16 MiB to parse\n"));
    assert_eq!(route.metrics.reviews.of(Outcome::TooLarge).get(), 1);
    let pod = review(2 << 20);
    assert_eq!(post(&route, "/mutate", pod).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_answers_ask_for_another_connection() {
    let route = route(Some(404), &limits());
    let head = |route: &Route| {
        let request = Request::builder().method(Method::POST).uri("/mutate");
        let route = route.clone();
        let request = request.body(Full::new(review(0))).unwrap();
        async move { route.answer(request).await.into_parts().0 }
    };
    assert!(!head(&route).await.headers.contains_key(CONNECTION));
    route.ending.cancel();
    assert_eq!(head(&route).await.headers[CONNECTION], "close");
}
