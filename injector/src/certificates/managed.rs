//! Does what `plan` says, with all replicas of one mind.
//!
//! Replicas agree by the Secret's version: of two that write at once, one is refused, and takes
//! what the other wrote. Nothing is served before it was read back.

mod observe;
#[cfg(test)]
mod tests;
mod watch;
mod write;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use rustls::pki_types::CertificateDer;
use shared::clock::Clock;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::watch::watch_one;
use super::bundle::publishes;
use super::material::Material;
use super::period::Period;
use super::plan::overlap;
use super::{Status, put_in_service};
use crate::config;
use crate::metrics::Metrics;
use crate::tls::Slot;

/// The longest pause between two looks at the clock: it may be stepped.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// The shortest one. What fails is tried again after it.
const RETRY: Duration = Duration::from_secs(2);
/// How long API servers may take to see a `caBundle` that we have seen.
const SETTLE: Duration = Duration::from_secs(10);

/// Keeps the certificate, the Secret and `caBundle` in order.
pub struct Managed {
    settings: config::Managed,
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    slot: Arc<Slot>,
    status: Arc<Status>,
    clock: Clock,
    metrics: Metrics,
    /// The Secret without its data; `None` until it was seen, and where it does not exist.
    secret: Option<Secret>,
    /// What the Secret held when it last made sense.
    material: Option<Material>,
    /// Whether it makes sense now.
    current: bool,
    configuration: Option<MutatingWebhookConfiguration>,
    /// The authorities that every entry trusts, and since when.
    trusted: Vec<(CertificateDer<'static>, Instant)>,
    /// The certificate that is served.
    served: Option<CertificateDer<'static>>,
    /// The authority that has signed it.
    served_by: Option<CertificateDer<'static>>,
}

impl Managed {
    /// Serves through `slot`, and tells `status`.
    pub fn new(
        settings: config::Managed,
        client: &kube::Client,
        slot: Arc<Slot>,
        status: Arc<Status>,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &settings.namespace),
            configurations: Api::all(client.clone()),
            settings,
            slot,
            status,
            clock,
            metrics,
            secret: None,
            material: None,
            current: false,
            configuration: None,
            trusted: Vec::new(),
            served: None,
            served_by: None,
        }
    }

    /// Keeps everything in order until `stop`. Failures are logged and tried again, for ever; what
    /// is served goes on being served.
    pub async fn keep(mut self, stop: CancellationToken) {
        let secrets = watch_one(self.secrets.clone(), &self.settings.secret);
        let mut secrets = pin!(secrets);
        let name = self.settings.webhook_configuration.clone();
        let configurations = watch_one(self.configurations.clone(), &name);
        let mut configurations = pin!(configurations);
        loop {
            let pause = self.act().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
                Some(seen) = secrets.next() => self.saw_secret(seen),
                Some(seen) = configurations.next() => self.saw_configuration(seen),
            }
        }
    }

    /// Does what is to be done now. Says when to look again, if nothing happens before.
    async fn act(&mut self) -> Duration {
        self.note_trust();
        let mut pause = self.serve();
        if let Some(next) = self.follow_plan().await {
            pause = pause.min(next);
        }
        if self.current && self.publish().await.is_err() {
            pause = pause.min(RETRY);
        }
        pause
    }

    /// Notes which of our authorities the API server trusts, and since when.
    fn note_trust(&mut self) {
        let (Some(material), Some(configuration)) = (&self.material, &self.configuration) else {
            self.trusted.clear();
            return;
        };
        let before = std::mem::take(&mut self.trusted);
        for authority in &material.authorities {
            if publishes(configuration, authority) {
                let known = before.iter().find(|(known, _)| known == authority);
                let since = known.map_or_else(Instant::now, |(_, since)| *since);
                self.trusted.push((authority.clone(), since));
            }
        }
        if material
            .signer()
            .is_some_and(|signer| self.trusts(signer).is_some())
        {
            self.status.published();
        }
    }

    /// How long every entry has trusted an authority, as far as was seen.
    fn trusts(&self, authority: &CertificateDer<'_>) -> Option<Duration> {
        let mut trusted = self.trusted.iter();
        let (_, since) = trusted.find(|(trusted, _)| trusted == authority)?;
        Some(since.elapsed())
    }

    /// Serves the certificate of the Secret: at once where there is nothing better, and otherwise
    /// when every API server has had the time to learn its authority.
    fn serve(&mut self) -> Duration {
        let Some(material) = self.material.as_ref().filter(|_| self.current) else {
            return LONGEST_PAUSE;
        };
        let Some(leaf) = material.pair.chain().first() else {
            return LONGEST_PAUSE;
        };
        if self.served.as_ref() == Some(leaf) {
            return LONGEST_PAUSE;
        }
        let serves_well = self.served.as_ref().is_some_and(|served| {
            Period::of(served).is_some_and(|period| self.clock.now() < period.until)
        });
        // Nothing is lost where nobody trusts what is served.
        let trusted = self.configuration.as_ref().is_none_or(|configuration| {
            let mut authority = self.served_by.iter();
            authority.all(|authority| publishes(configuration, authority))
        });
        // Below the overlap, after which the old authority may be dropped.
        let settle = SETTLE.min(overlap(self.settings.certificate_lifetime) / 2);
        let settled = material.signer().and_then(|signer| self.trusts(signer));
        if serves_well && trusted && settled.is_none_or(|since| since < settle) {
            return settle
                .saturating_sub(settled.unwrap_or_default())
                .max(RETRY / 10);
        }
        let expires = material.facts().certificate.until;
        put_in_service(material.pair.clone(), expires, &self.slot, &self.metrics);
        self.served = Some(leaf.clone());
        self.served_by = material.signer().cloned();
        LONGEST_PAUSE
    }
}
