//! Gathers what a decision needs, and has [`mutate`] make it.

use std::sync::Arc;
use std::time::Duration;

use shared::metrics::Counters;
use tokio::time::Instant;

use crate::lookup::{Annotations, Key, Lookup, Namespaces, ServiceAccounts};
use crate::metrics::{Outcome, Source};
use crate::mutate::{Decision, PodSecurity, Settings, Subject, Verdict, mutate};
use crate::review;

/// How long the namespace is waited for: it only makes a warning, and must not cost a Pod its
/// credentials because time ran out.
const NAMESPACE: Duration = Duration::from_millis(500);

/// Decides reviews.
pub struct Decide {
    settings: Settings,
    service_accounts: Arc<Lookup<ServiceAccounts>>,
    namespaces: Arc<Lookup<Namespaces>>,
    lookups: Counters<Source>,
}

impl Decide {
    /// Decides by `settings` and what is looked up; lookups of ServiceAccounts count in `lookups`.
    pub const fn new(
        settings: Settings,
        service_accounts: Arc<Lookup<ServiceAccounts>>,
        namespaces: Arc<Lookup<Namespaces>>,
        lookups: Counters<Source>,
    ) -> Self {
        Self {
            settings,
            service_accounts,
            namespaces,
            lookups,
        }
    }

    /// Decides one review by `deadline`. `required` says whether its Pod must not start without
    /// credentials.
    ///
    /// # Cancel safety
    /// Safe: nothing is kept.
    pub async fn decide(
        &self,
        review: &review::Request,
        required: bool,
        deadline: Instant,
    ) -> (Outcome, Verdict) {
        let key = Key::new(&review.namespace, &review.service_account);
        let found = self.service_accounts.find(&key, deadline).await;
        let source = found.as_ref().map_or(Source::Failed, |found| found.source);
        self.lookups.of(source).inc();
        let annotations: Annotations = match found {
            Ok(found) => found.value.unwrap_or_default(),
            Err(error) => {
                // The rate of these lines is that of failing reviews, each with its own line.
                tracing::debug!(%error, "a ServiceAccount is unreadable");
                return (Outcome::Unreadable, undecided(required, &error.to_string()));
            }
        };
        let nothing_asked = !required && annotations.as_map().is_empty();
        let verdict = mutate(
            &Subject {
                pod: &review.object,
                service_account: annotations.as_map(),
                pod_security: if nothing_asked {
                    PodSecurity::default()
                } else {
                    self.pod_security(&review.namespace, deadline).await
                },
                required,
                draw: fastrand::u32(..),
            },
            &self.settings,
        );
        (Outcome::Decided(verdict.decision), verdict)
    }

    /// What the namespace enforces. It only makes a warning, so a namespace that cannot be read
    /// soon counts as one that enforces nothing.
    async fn pod_security(&self, namespace: &str, deadline: Instant) -> PodSecurity {
        let key = Key::new("", namespace);
        let soon = deadline.min(Instant::now() + NAMESPACE);
        let found = self.namespaces.find(&key, soon).await;
        found.ok().and_then(|found| found.value).unwrap_or_default()
    }

    /// What is said when time has run out.
    pub fn late(required: bool) -> (Outcome, Verdict) {
        let verdict = undecided(required, "its ServiceAccount could not be read in time");
        (Outcome::Unreadable, verdict)
    }
}

/// The verdict on a Pod of which too little is known.
fn undecided(required: bool, reason: &str) -> Verdict {
    let nothing = Verdict {
        decision: Decision::Skipped,
        patch: Vec::new(),
        warnings: Vec::new(),
        refusal: None,
    };
    if required {
        Verdict {
            decision: Decision::Refused,
            refusal: Some(format!(
                "no CAIOS credentials for this Pod: {reason}; try again, or see the log of \
                 caios-injector"
            )),
            ..nothing
        }
    } else {
        Verdict {
            warnings: vec![format!(
                "no CAIOS credentials for this Pod: {reason}; if it needs them, create it again"
            )],
            ..nothing
        }
    }
}
