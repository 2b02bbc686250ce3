//! What a cache hands on to the next agent of the node, and takes over from the one before.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::value::RawValue;

use super::saved::{Saved, SavedCredentials, SavedFailures, SavedIdentity, SavedToken};
use super::{Cache, flight};
use crate::credentials::Credentials;
use crate::exchange::Exchange;
use crate::workload::{Identity, Pod, PodUid, Token, Workload};

/// One identity, as it is now.
pub(super) struct Current {
    pub(super) identity: Identity,
    pub(super) held: Option<CurrentCredentials>,
    pub(super) tokens: Vec<Arc<Workload>>,
    pub(super) failures: Option<SavedFailures>,
}

pub(super) struct CurrentCredentials {
    pub(super) credentials: Credentials,
    pub(super) ends_at: Timestamp,
    pub(super) renew_at: Timestamp,
}

impl<E: Exchange> Cache<E> {
    /// Has `write` write what the next agent is to know. The locks are not held meanwhile.
    pub fn save<T>(&self, write: impl FnOnce(&Saved<'_>) -> T) -> T {
        let shared = &self.0;
        let clocks = shared.clocks();
        let identities = shared.identities.iter();
        let current: Vec<_> = identities
            .filter_map(|(_, entry)| entry.current(clocks))
            .collect();
        let bodies: Vec<_> = current
            .iter()
            .map(|one| one.held.as_ref().map(|held| held.credentials.body()))
            .collect();
        let identities = current
            .iter()
            .zip(&bodies)
            .map(|(one, body)| SavedIdentity {
                issuer: one.identity.issuer().into(),
                subject: one.identity.subject().into(),
                audience: one.identity.audience().into(),
                credentials: body
                    .as_deref()
                    .and_then(|body| saved_credentials(one.held.as_ref()?, body)),
                tokens: one.tokens.iter().map(saved_token).collect(),
                failures: one.failures,
                on_get_until: shared
                    .exchange
                    .on_get_until(&one.identity)
                    .map(|until| clocks.wall_at(until)),
            });
        write(&Saved {
            identities: identities.collect(),
            gate: shared.gate.save(clocks),
        })
    }

    /// Takes over what another agent of the node had: credentials that live longer than what is
    /// here, and tokens that are newer. `is_first` says that this cache starts with it: then how the
    /// issuer was when it was last asked is taken over too.
    pub fn restore(&self, saved: &Saved<'_>, is_first: bool) {
        let shared = &self.0;
        let clocks = shared.clocks();
        if is_first {
            shared.gate.restore(saved.gate, clocks);
        }
        for saved in &saved.identities {
            let identity = Identity::new(&saved.issuer, &saved.subject, &saved.audience);
            let tokens: Vec<_> = saved
                .tokens
                .iter()
                .filter(|token| token.expires_at > clocks.wall)
                .map(|token| workload(&identity, token))
                .collect();
            let credentials = saved
                .credentials
                .as_ref()
                .filter(|credentials| credentials.ends_at > clocks.wall);
            if tokens.is_empty() && credentials.is_none() {
                continue;
            }
            if let Some(until) = saved.on_get_until.filter(|_| is_first) {
                shared
                    .exchange
                    .go_on_with_get(&identity, clocks.instant_at(until));
            }
            let entry = shared.entry(&identity);
            let failures = saved.failures.filter(|_| is_first);
            let credentials = credentials.map(|saved| CurrentCredentials {
                credentials: Credentials::restore(
                    saved.access_key_id.clone().into_owned(),
                    saved.expires_at,
                    saved.body.get().as_bytes(),
                ),
                ends_at: saved.ends_at,
                renew_at: saved.renew_at,
            });
            entry.restore(credentials, &tokens, failures, clocks);
            flight::start(shared, &entry);
        }
        self.observe();
    }

    /// Returns when what [`save`](Self::save) writes has changed since this last returned. For one
    /// caller.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Leaves renewals to another agent of the node, or no longer. Requests are served all the
    /// same, and for one that has no credentials an exchange is made.
    pub fn rest(&self, resting: bool) {
        self.0.gate.rest(resting);
    }
}

fn saved_credentials<'a>(
    held: &'a CurrentCredentials,
    body: &'a [u8],
) -> Option<SavedCredentials<'a>> {
    Some(SavedCredentials {
        access_key_id: held.credentials.access_key_id().into(),
        expires_at: held.credentials.expires_at(),
        ends_at: held.ends_at,
        renew_at: held.renew_at,
        body: serde_json::from_slice::<&RawValue>(body).ok()?,
    })
}

fn saved_token(workload: &Arc<Workload>) -> SavedToken<'_> {
    let Pod {
        uid,
        name,
        namespace,
        service_account,
    } = &workload.pod;
    SavedToken {
        pod_uid: Cow::Borrowed(uid.as_str()),
        pod_name: name.into(),
        namespace: namespace.into(),
        service_account: service_account.into(),
        expires_at: workload.token_expires_at,
        token: workload.token.expose(),
    }
}

fn workload(identity: &Identity, saved: &SavedToken<'_>) -> Arc<Workload> {
    Arc::new(Workload {
        identity: identity.clone(),
        pod: Pod {
            uid: PodUid::new(&saved.pod_uid),
            name: saved.pod_name.clone().into_owned(),
            namespace: saved.namespace.clone().into_owned(),
            service_account: saved.service_account.clone().into_owned(),
        },
        token: Token::new(SecretString::from(saved.token)),
        token_expires_at: saved.expires_at,
    })
}
