//! Puts the document together from the parts that know.

use std::sync::Arc;

use jiff::Timestamp;
use shared::admin::Admin;
use shared::clock::Clock;

use super::advice;
use super::document::{Breaker, CoreWeave, Document, Identity, PodLine, Requirement, Unserved};
use super::ledger::Ledger;
use crate::broker::Broker;
use crate::cache::IdentityView;
use crate::config::Config;
use crate::exchange::Exchange;
use crate::metrics::Metrics;
use crate::watch;

/// The parts that a report is of.
pub struct Sources<E: Exchange> {
    /// Identities and their keys.
    pub broker: Arc<Broker<E>>,
    /// Pods that are served.
    pub ledger: Arc<Ledger>,
    /// Pods that are not, where Pods are watched.
    pub unserved: Option<Arc<watch::Unserved>>,
    /// Readiness.
    pub admin: Arc<Admin>,
    /// What is counted.
    pub metrics: Metrics,
}

/// Reports on a running agent.
pub struct Reporter<E: Exchange> {
    sources: Sources<E>,
    clock: Clock,
    started_at: Timestamp,
    node: Option<String>,
    api_url: String,
}

impl<E: Exchange> Reporter<E> {
    /// Reports on an agent of these parts that starts now.
    pub fn new(config: &Config, sources: Sources<E>, clock: Clock) -> Self {
        Self {
            sources,
            started_at: clock.now(),
            clock,
            node: config.identity.node.clone(),
            api_url: config.exchange.api.to_string(),
        }
    }

    /// What there is to say now.
    pub fn report(&self) -> Document {
        let Sources {
            broker,
            ledger,
            unserved,
            admin,
            metrics,
        } = &self.sources;
        let count = |gauge: &prometheus::IntGauge| u64::try_from(gauge.get()).unwrap_or(0);
        let view = broker.cache().view();
        let readiness = admin.readiness().conditions();
        let readiness = readiness.map(|(name, holds)| Requirement {
            name: name.to_owned(),
            holds,
        });
        let pods = ledger.pods();
        let unserved_pods = unserved.as_ref().and_then(|unserved| unserved.pods());
        let mut document = Document {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.clone(),
            now: self.clock.now(),
            started_at: self.started_at,
            worker_restarts: metrics.worker_restarts.get(),
            panics: metrics.panics.get(),
            readiness: readiness.collect(),
            issuer_keys: broker.verifier().keys(),
            coreweave: CoreWeave {
                url: self.api_url.clone(),
                breaker: if view.is_breaker_open {
                    Breaker::Open
                } else {
                    Breaker::Closed
                },
                next_probe_at: view.next_probe_at,
                throttled_until: view.throttled_until,
                exchanges: view.exchanges,
                max_exchanges: view.max_exchanges,
                short_lived_identities: count(&metrics.short_lived_identities),
            },
            held_requests: count(&metrics.held_requests),
            connections: count(&metrics.connections),
            identities: view.identities.into_iter().map(identity).collect(),
            unserved_pods: unserved_pods.map(|unserved| still_unserved(unserved, &pods)),
            pods,
            problems: Vec::new(),
        };
        document.problems = advice::problems(&document);
        document
    }
}

/// Those that have not enrolled since the watch last looked.
fn still_unserved(found: Vec<watch::UnservedView>, served: &[PodLine]) -> Vec<Unserved> {
    let is_served = |pod: &watch::UnservedView| served.iter().any(|line| line.uid == pod.uid);
    let found = found.into_iter().filter(|pod| !is_served(pod));
    let unserved = found.map(|pod| Unserved {
        remedy: advice::for_unserved(&pod),
        pod,
    });
    unserved.collect()
}

fn identity(view: IdentityView) -> Identity {
    let subject = view.identity.subject();
    let name = subject.strip_prefix("system:serviceaccount:");
    let service_account = name.unwrap_or(subject).replacen(':', "/", 1);
    Identity {
        principal: view.identity.principal(),
        service_account,
        audience: view.identity.audience().to_owned(),
        key: view.key,
        next_exchange_at: view.next_exchange_at,
        pods: view.pods,
        held_requests: view.held_requests,
        without_token: view.without_token,
        failure: view.failure,
    }
}
