//! A watch that trusts no version of the past.

use std::fmt::Debug;

use futures_util::stream::{Stream, StreamExt as _, unfold};
use kube::api::Api;
use kube::runtime::watcher::{Config, DefaultBackoff, Error, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

/// Shows all objects and what becomes of them, for ever. After each failure all are listed anew,
/// as an [`Event::Init`] says.
///
/// To go on from the version that was seen last, as kube's own watch does, would be cheaper, and
/// deaf once a store was restored from a snapshot: versions are then counted again from the
/// snapshot's, and kube-apiserver sends nothing to a watch whose version is still to come. A
/// restore ends every watch with a failure, because no API server runs meanwhile. One that ends
/// with its time ([`WATCH_SECONDS`](super::WATCH_SECONDS)) is no failure and goes on.
///
/// The pause after a failure is 0.8 s and doubles, up to 30 s, with each that comes within two
/// minutes of the last; jitter makes it up to twice as long. What is listed in between does not
/// shorten it: where only the watch fails, listing is what costs.
///
/// # Cancel safety
/// Safe: what is dropped between two events is gone on with at the next.
pub fn watched<K>(api: Api<K>, config: Config) -> impl Stream<Item = Result<Event<K>, Error>> + Send
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let anew = move || watcher(api.clone(), config.clone()).boxed();
    let state = (None, None, DefaultBackoff::default(), anew);
    unfold(state, |(mut events, pause, mut backoff, anew)| async move {
        if let Some(pause) = pause {
            sleep(pause).await;
        }
        let event = events.get_or_insert_with(&anew).next().await?;
        let mut pause = None;
        if event.is_err() {
            events = None;
            pause = backoff.next();
        }
        Some((event, (events, pause, backoff, anew)))
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::future::ready;
    use futures_util::stream::{iter, pending};
    use http_body_util::StreamBody;
    use http_body_util::combinators::BoxBody;
    use hyper::body::Frame;
    use hyper::{Request, Response};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::mpsc;
    use tokio::time::{Instant, timeout};

    use super::*;

    /// How a watch of the scripted API goes.
    #[derive(Clone, Copy)]
    enum Goes {
        /// It brings nothing.
        Silent,
        /// Its time is over at once.
        Over,
        /// Its connection breaks.
        Broken,
        /// It is refused.
        Refused,
    }

    /// A client of an API that lists an object `listed` at version 1000, and whose watches go as
    /// they are told, the last of them again and again; what was asked, in short.
    fn scripted(watches: &'static [Goes]) -> (Api<ConfigMap>, mpsc::Receiver<String>) {
        let (asked, asking) = mpsc::channel(64);
        let number = Arc::new(AtomicUsize::new(0));
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
            let goes = watches[number.load(Ordering::Relaxed).min(watches.len() - 1)];
            let body = if is_watch {
                number.fetch_add(1, Ordering::Relaxed);
                match goes {
                    Goes::Silent => of(pending()),
                    Goes::Over => of(iter([])),
                    Goes::Broken => of(iter([Err(io::Error::other("reset"))])),
                    Goes::Refused => return ready(Err(lost())),
                }
            } else {
                let object = json!({ "metadata": { "name": "listed", "resourceVersion": "9" } });
                let list = json!({
                    "apiVersion": "v1", "kind": "ConfigMapList",
                    "metadata": { "resourceVersion": "1000" }, "items": [object],
                });
                of(iter([Ok(Frame::data(Bytes::from(list.to_string())))]))
            };
            ready(Ok::<_, kube::Error>(Response::new(body)))
        });
        (Api::all(kube::Client::new(service, "default")), asking)
    }

    /// A body of these parts.
    fn of(
        parts: impl Stream<Item = io::Result<Frame<Bytes>>> + Send + Sync + 'static,
    ) -> BoxBody<Bytes, io::Error> {
        BoxBody::new(StreamBody::new(parts))
    }

    fn lost() -> kube::Error {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        kube::Error::Service(refused.into())
    }

    /// What was asked within a time.
    async fn asked(watches: &'static [Goes], time: Duration) -> Vec<String> {
        let (api, mut asking) = scripted(watches);
        let mut events = pin!(watched(api, Config::default().timeout(60)));
        let all = async { while events.next().await.is_some() {} };
        let _ = timeout(time, all).await;
        let mut asked = Vec::new();
        while let Ok(one) = asking.try_recv() {
            asked.push(one);
        }
        asked
    }

    const SOON: Duration = Duration::from_secs(10);
    const LIST: &str = "list ";
    const WATCH: &str = "watch resourceVersion=1000";

    #[tokio::test(start_paused = true)]
    async fn a_watch_whose_time_is_over_goes_on_where_it_ended() {
        let asked = asked(&[Goes::Over, Goes::Over, Goes::Silent], SOON).await;
        assert_eq!(asked, [LIST, WATCH, WATCH, WATCH]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_all_is_listed_anew() {
        for fails in [
            &[Goes::Broken, Goes::Silent],
            &[Goes::Refused, Goes::Silent],
        ] {
            assert_eq!(asked(fails, SOON).await, [LIST, WATCH, LIST, WATCH]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_only_the_watch_fails_listing_becomes_seldom() {
        let started = Instant::now();
        let asked = asked(&[Goes::Refused], Duration::from_mins(5)).await;
        assert_eq!(started.elapsed(), Duration::from_mins(5));
        let lists = asked.iter().filter(|one| *one == LIST).count();
        // Pauses of 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30 … s, each up to twice as long.
        assert!((6..=14).contains(&lists), "{lists} lists");
    }
}
