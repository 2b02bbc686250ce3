use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::{pending, ready};
use futures_util::stream::iter;
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;
use hyper::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

/// How a watch of the scripted API goes.
#[derive(Clone, Copy)]
enum Goes {
    /// It brings nothing for ever, as one whose host has vanished.
    Silent,
    /// It is not even answered.
    Unanswered,
    /// Its time is over, and it brought nothing.
    Over,
    /// The same, with a bookmark at its end.
    Marked,
    /// Its connection is closed after so many seconds, without a failure.
    Closed(u64),
    /// The same, as a TLS connection whose end says nothing of it.
    Killed(u64),
    /// Its connection breaks.
    Broken,
    /// It is refused.
    Refused,
}

/// A client of an API that lists an object `listed` at version 1000, and whose watches go as
/// they are told, the last of them again and again; what was asked, in short.
fn scripted(watches: &[Goes]) -> (Api<ConfigMap>, mpsc::Receiver<String>) {
    let (asked, asking) = mpsc::channel(256);
    let number = Arc::new(AtomicUsize::new(0));
    let watches = watches.to_vec();
    let service = tower::service_fn(move |request: Request<Body>| {
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query.contains("watch=true");
        let version = query
            .split('&')
            .find(|it| it.starts_with("resourceVersion"));
        let what = if is_watch { "watch" } else { "list" };
        asked
            .try_send(format!("{what} {}", version.unwrap_or_default()))
            .unwrap();
        let goes = if is_watch {
            let number = number.fetch_add(1, Ordering::Relaxed);
            Some(watches[number.min(watches.len() - 1)])
        } else {
            None
        };
        async move { answer(goes).await.map(Response::new) }
    });
    (Api::all(kube::Client::new(service, "default")), asking)
}

async fn answer(goes: Option<Goes>) -> Result<BoxBody<Bytes, io::Error>, kube::Error> {
    let Some(goes) = goes else {
        let object = json!({ "metadata": { "name": "listed", "resourceVersion": "9" } });
        let list = json!({
            "apiVersion": "v1", "kind": "ConfigMapList",
            "metadata": { "resourceVersion": "1000" }, "items": [object],
        });
        return Ok(of(iter([Ok(list.to_string())])));
    };
    let bookmark = json!({
        "type": "BOOKMARK",
        "object": {
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "resourceVersion": "2000" },
        },
    });
    let bookmark = format!("{bookmark}\n");
    Ok(match goes {
        Goes::Silent => of(futures_util::stream::pending()),
        Goes::Unanswered => pending().await,
        Goes::Over => of(after(WATCH_TIME, None)),
        Goes::Marked => of(after(WATCH_TIME, Some(Ok(bookmark)))),
        Goes::Closed(seconds) => of(after(Duration::from_secs(seconds), None)),
        Goes::Killed(seconds) => {
            let end = io::ErrorKind::UnexpectedEof.into();
            of(after(Duration::from_secs(seconds), Some(Err(end))))
        }
        Goes::Broken => of(iter([Err(io::Error::other("reset"))])),
        Goes::Refused => {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            return Err(kube::Error::Service(refused.into()));
        }
    })
}

/// A last part after a time, and the end.
fn after(
    time: Duration,
    last: Option<io::Result<String>>,
) -> impl Stream<Item = io::Result<String>> + Send + Sync {
    let later = futures_util::stream::once(async move {
        sleep(time).await;
        iter(last)
    });
    later.flatten()
}

/// A body of these parts.
fn of(
    parts: impl Stream<Item = io::Result<String>> + Send + Sync + 'static,
) -> BoxBody<Bytes, io::Error> {
    BoxBody::new(StreamBody::new(
        parts.map(|part| part.map(|text| Frame::data(Bytes::from(text)))),
    ))
}

/// What was asked within a time, and how many failures were shown.
async fn asked(watches: &[Goes], time: Duration) -> (Vec<String>, usize) {
    let (api, mut asking) = scripted(watches);
    let mut events = pin!(watched(api, ListParams::default()));
    let mut failures = 0;
    let all = async {
        while let Some(event) = events.next().await {
            failures += usize::from(event.is_err());
        }
    };
    let _ = timeout(time, all).await;
    let mut asked = Vec::new();
    while let Ok(one) = asking.try_recv() {
        asked.push(one);
    }
    (asked, failures)
}

const SOON: Duration = Duration::from_secs(10);
const LIST: &str = "list ";
const WATCH: &str = "watch resourceVersion=1000";
const GONE_ON: &str = "watch resourceVersion=2000";

#[tokio::test(start_paused = true)]
async fn a_watch_whose_time_is_over_goes_on_where_it_ended() {
    let watches = [Goes::Over, Goes::Marked, Goes::Over, Goes::Silent];
    let (asked, failures) = asked(&watches, WATCH_TIME * 3 + SOON).await;
    assert_eq!(asked, [LIST, WATCH, WATCH, GONE_ON, GONE_ON]);
    assert_eq!(failures, 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_all_is_listed_anew() {
    for fails in [Goes::Broken, Goes::Refused] {
        let (asked, failures) = asked(&[fails, Goes::Silent], SOON).await;
        assert_eq!(asked, [LIST, WATCH, LIST, WATCH]);
        assert_eq!(failures, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_vanishes_without_closing_is_noticed_within_its_time_and_all_is_listed() {
    for (vanishes, noticed) in [
        (Goes::Silent, WATCH_TIME + LATE),
        (Goes::Unanswered, ANSWER_TIME),
    ] {
        let watches = [Goes::Marked, vanishes, Goes::Silent];
        let before = WATCH_TIME + noticed;
        let (seen, failures) = asked(&watches, before.saturating_sub(EARLY)).await;
        assert_eq!(seen, [LIST, WATCH, GONE_ON]);
        assert_eq!(failures, 0);
        let (seen, failures) = asked(&watches, before + SOON).await;
        assert_eq!(seen, [LIST, WATCH, GONE_ON, LIST, WATCH]);
        assert_eq!(failures, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_before_its_time_is_begun_anew_from_a_list() {
    for (ends, failed) in [
        (Goes::Closed(0), 1),
        (Goes::Killed(0), 1),
        (Goes::Closed(50), 0),
        (Goes::Killed(50), 0),
    ] {
        let time = Duration::from_secs(50) + SOON;
        let (asked, failures) = asked(&[ends, Goes::Silent], time).await;
        assert_eq!(asked, [LIST, WATCH, LIST, WATCH]);
        assert_eq!(failures, failed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_each_watch_at_once_is_asked_seldom() {
    let (asked, _) = asked(&[Goes::Closed(0)], Duration::from_mins(5)).await;
    let lists = asked.iter().filter(|one| *one == LIST).count();
    assert!((6..=14).contains(&lists), "{lists} lists");
}

#[tokio::test(start_paused = true)]
async fn after_ten_watches_that_bring_nothing_all_is_listed() {
    let (seen, failures) = asked(&[Goes::Over], WATCH_TIME * 10 + SOON).await;
    let mut expected = vec![LIST];
    expected.extend([WATCH; 10]);
    expected.extend([LIST, WATCH]);
    assert_eq!(seen, expected);
    assert_eq!(failures, 0);
    // Bookmarks are a sign of life.
    let (seen, _) = asked(&[Goes::Marked], WATCH_TIME * 30).await;
    assert_eq!(seen.iter().filter(|one| *one == LIST).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_only_the_watch_fails_listing_becomes_seldom() {
    let started = Instant::now();
    let (asked, _) = asked(&[Goes::Refused], Duration::from_mins(5)).await;
    assert_eq!(started.elapsed(), Duration::from_mins(5));
    let lists = asked.iter().filter(|one| *one == LIST).count();
    // Pauses of 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30 … s, each up to twice as long.
    assert!((6..=14).contains(&lists), "{lists} lists");
}

/// A page at a time, each of them shown before the next is asked for, and a list that hangs.
#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages_and_one_that_is_not_answered_is_tried_again() {
    let pages = Arc::new(AtomicUsize::new(0));
    let service = tower::service_fn(move |request: Request<Body>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let number = pages.fetch_add(1, Ordering::Relaxed);
        async move {
            let (token, version, name) = match number {
                0 => return pending().await,
                1 => ("next", "1", "one"),
                _ => ("", "7", "two"),
            };
            assert_eq!(query.contains("continue=next"), number == 2, "{query}");
            let list = json!({
                "apiVersion": "v1", "kind": "ConfigMapList",
                "metadata": { "resourceVersion": version, "continue": token },
                "items": [{ "metadata": { "name": name } }],
            });
            Ok::<_, kube::Error>(Response::new(Body::from(list.to_string().into_bytes())))
        }
    });
    let api: Api<ConfigMap> = Api::all(kube::Client::new(service, "default"));
    let events = watched(api, ListParams::default()).take(5);
    let shown: Vec<_> = events
        .then(|event| {
            ready(match event {
                Ok(Event::InitApply(object)) => object.name_any(),
                Ok(Event::Init) => "init".to_owned(),
                Ok(Event::InitDone) => "done".to_owned(),
                Ok(_) => "event".to_owned(),
                Err(_) => "failure".to_owned(),
            })
        })
        .collect()
        .await;
    assert_eq!(shown, ["failure", "init", "one", "two", "done"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_any_version_has_it_from_the_memory_of_the_api_server() {
    let (asked, mut asking) = mpsc::channel(1);
    let service = tower::service_fn(move |request: Request<Body>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let _ = asked.try_send(query);
        pending::<Result<Response<Body>, kube::Error>>()
    });
    let api: Api<ConfigMap> = Api::all(kube::Client::new(service, "default"));
    let mut events = pin!(watched(api, ListParams::default().at("0")));
    assert!(events.next().await.unwrap().is_err(), "it was answered");
    let query = asking.recv().await.unwrap();
    assert!(query.contains("resourceVersion=0"), "{query}");
}
