//! Who asks: an identity, the Pod that proved it, and the token it proved it with.

use std::fmt;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

/// Whose credentials: all Pods of one ServiceAccount that use one audience share them.
///
/// A cheap clone. Equality and order are by issuer, subject and audience, and so is the hash, which is
/// worked out once: every request looks its identity up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(Arc<Parts>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Parts {
    issuer: String,
    subject: String,
    audience: String,
    hash: u64,
}

/// One key for the hashes of all identities, so that equal ones have equal hashes and nobody outside
/// can choose names that collide.
static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl Identity {
    /// Names an identity by the verified `iss`, `sub` and (accepted) `aud` of a token.
    pub fn new(issuer: &str, subject: &str, audience: &str) -> Self {
        Self(Arc::new(Parts {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            audience: audience.to_owned(),
            hash: HASHES.hash_one((issuer, subject, audience)),
        }))
    }

    /// The token's issuer, a URL.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// `system:serviceaccount:<namespace>:<name>`.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The audience that the token was made for.
    pub fn audience(&self) -> &str {
        &self.0.audience
    }

    /// What CoreWeave's policies call this identity: `role/<issuer>:<subject>`
    /// (CoreWeave's documentation of Workload Identity Federation).
    pub fn principal(&self) -> String {
        format!("role/{}:{}", self.0.issuer, self.0.subject)
    }
}

/// A Pod's uid, unique over the life of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(Arc<str>);

impl PodUid {
    /// Takes the uid as the API server writes it.
    pub fn new(uid: &str) -> Self {
        Self(uid.into())
    }

    /// The uid's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The Pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its uid.
    pub uid: PodUid,
    /// Its name.
    pub name: String,
    /// The namespace of the Pod and of its ServiceAccount.
    pub namespace: String,
    /// The ServiceAccount's name.
    pub service_account: String,
}

/// A service account token. No `Debug` of its text, wiped when the last clone is dropped.
#[derive(Clone)]
pub struct Token(Arc<SecretString>);

impl Token {
    /// Takes over a token's text.
    pub fn new(text: SecretString) -> Self {
        Self(Arc::new(text))
    }

    /// The token's text, for the one request that proves it to CoreWeave.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// How many clones keep the text in memory.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A verified caller.
#[derive(Debug)]
pub struct Workload {
    /// Whose credentials it may have.
    pub identity: Identity,
    /// The Pod that its token is bound to.
    pub pod: Pod,
    /// The proof, for exchange and renewal.
    pub token: Token,
    /// When the proof ends.
    pub token_expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_principal_is_the_one_that_policies_name() {
        let identity = Identity::new(
            "https://issuer.example/id/1",
            "system:serviceaccount:ns:sa",
            "aud",
        );
        assert_eq!(
            identity.principal(),
            "role/https://issuer.example/id/1:system:serviceaccount:ns:sa"
        );
    }

    #[test]
    fn a_token_is_never_shown() {
        let token = Token::new(SecretString::from("canary"));
        assert_eq!(format!("{token:?}"), "Token");
    }
}
