//! The watch that fills memory.

use std::pin::pin;

use futures_util::StreamExt as _;
use kube::api::{Api, ListParams, PartialObjectMeta};
use prometheus::IntCounter;
use shared::throttled;
use tokio_util::sync::CancellationToken;

use super::Lookup;
use super::kind::Kind;
use crate::api;

impl<K: Kind> Lookup<K> {
    /// Keeps memory up to date until `stop`. Failures are logged and tried again with back-off,
    /// for ever; memory answers meanwhile.
    pub async fn keep(&self, suppressed: IntCounter, stop: CancellationToken) {
        let objects: Api<PartialObjectMeta<K::Object>> = Api::all(self.client.clone());
        let mut events = pin!(api::watched(objects, ListParams::default()));
        while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
            match event {
                Ok(event) => self.memory.apply(event),
                Err(error) => {
                    self.memory.interrupted();
                    let (noun, resource) = (K::NOUN, K::RESOURCE);
                    let reason = api::watch_reason(&error);
                    throttled!(
                        &suppressed,
                        warn,
                        %reason,
                        "failed to watch every {noun}, trying again: the injector's ClusterRole must \
                         allow get, list and watch of `{resource}`"
                    );
                }
            }
        }
    }
}
