//! What goes on beside the requests.

use std::sync::Arc;

use shared::parts::Parts;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::metrics::ListenerEnd;
use crate::{jumps, reap, trim};

impl App {
    /// What goes on by itself until `draining`.
    pub(super) fn background(&self, draining: &CancellationToken) -> Parts {
        let mut background = Parts::default();
        let (broker, stop) = (Arc::clone(&self.broker), draining.clone());
        background.spawn("the refresh of the issuer's keys", async move {
            broker.verifier().keep_keys(stop).await;
        });
        let (broker, stop) = (Arc::clone(&self.broker), draining.clone());
        background.spawn("the renewal of credentials", async move {
            broker.cache().keep(stop).await;
        });
        let (broker, stop) = (Arc::clone(&self.broker), draining.clone());
        let (registry, interval) = (Arc::clone(&self.registry), self.config.poll_interval);
        let ended = self
            .metrics
            .watch
            .ended
            .of(ListenerEnd::InterfacesGone)
            .clone();
        background.spawn("the watch over enrolled Pods", async move {
            let gone = |pod: &_| {
                ended.inc();
                broker.forget(pod);
            };
            reap::run(&registry, interval, gone, stop).await;
        });
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        background.spawn(
            "the watch over the node's clock",
            jumps::watch(clock, metrics, draining.clone()),
        );
        background.spawn("the return of memory", trim::run(draining.clone()));
        background
    }
}
