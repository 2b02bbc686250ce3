//! The watch of a single object.

use std::fmt::Debug;
use std::future::ready;

use futures_util::{Stream, StreamExt as _};
use kube::api::{Api, ListParams};
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;

use crate::api::watched;

/// Shows the object of this name whenever it may have changed, and `None` where it does not exist.
/// Failures are tried again with back-off, for ever.
pub(super) fn watch_one<K>(
    api: Api<K>,
    name: &str,
) -> impl Stream<Item = Result<Option<K>, watcher::Error>> + use<K>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    let mut listed = None;
    watched(api, only).filter_map(move |event| {
        ready(match event {
            Ok(Event::Init) => {
                listed = None;
                None
            }
            Ok(Event::InitApply(object)) => {
                listed = Some(object);
                None
            }
            Ok(Event::InitDone) => Some(Ok(listed.take())),
            Ok(Event::Apply(object)) => Some(Ok(Some(object))),
            Ok(Event::Delete(_)) => Some(Ok(None)),
            Err(error) => Some(Err(error)),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use hyper::{Request, Response};
    use k8s_openapi::api::core::v1::Secret;
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_object_is_watched_for_a_minute_at_a_time() {
        for items in [
            json!([]),
            json!([{ "metadata": { "name": "certificate" } }]),
        ] {
            let exists = items != json!([]);
            let (asked, mut asking) = mpsc::channel(8);
            let list = json!({ "metadata": { "resourceVersion": "7" }, "items": items });
            let list = list.to_string();
            let service = tower::service_fn(move |request: Request<Body>| {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let watches = query.contains("watch=true");
                asked.try_send(query).unwrap();
                let list = list.clone();
                async move {
                    if watches {
                        return std::future::pending().await;
                    }
                    Ok::<_, kube::Error>(Response::new(Body::from(list.into_bytes())))
                }
            });
            let client = kube::Client::new(service, "caios");
            let secrets: Api<Secret> = Api::namespaced(client, "caios");
            let mut seen = pin!(watch_one(secrets, "certificate"));
            let first = seen.next().await.unwrap().unwrap();
            assert_eq!(first.is_some(), exists);
            assert!(asking.recv().await.unwrap().contains("certificate"));
            let watch = tokio::select! {
                _ = seen.next() => unreachable!("nothing changes"),
                watch = asking.recv() => watch.unwrap(),
            };
            assert!(watch.contains("timeoutSeconds=60"), "{watch}");
            assert!(watch.contains("certificate"), "{watch}");
        }
    }
}
