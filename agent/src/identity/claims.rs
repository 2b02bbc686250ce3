//! What a bound service account token says, and whether that may be used here. Pure.
//!
//! The layout is the API server's (`pkg/serviceaccount/claims.go` of Kubernetes): `aud`, `exp`,
//! `iat`, `iss`, `jti`, `nbf`, `sub` and the private claim `kubernetes.io`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::quoted::Quoted;
use crate::error::Error;
use crate::workload::{Identity, Pod, PodUid, Token, Workload};

/// The claims that are used. A time that is not an integer, and a claim that is there twice, make
/// the whole token unreadable.
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    aud: Audiences,
    exp: i64,
    nbf: i64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

/// RFC 7519 allows a single audience as a plain string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Reference,
    /// Absent in tokens that are bound to a Secret, a Node or nothing.
    pod: Option<Reference>,
    /// Absent before Kubernetes 1.30, and where the Pod was not scheduled yet.
    node: Option<Named>,
}

/// What a claim refers to by name alone. A node's uid is missing while the API server does not know the
/// node, as when it is registered anew.
#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    uid: String,
}

/// What a token is measured against.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    /// In order of preference.
    pub(super) audiences: &'a [String],
    /// This node's wall clock.
    pub(super) now: Timestamp,
    /// How far that has come, if it was set back.
    pub(super) furthest: Timestamp,
    /// How far this node's clock may be behind the API server's.
    pub(super) leeway: Duration,
}

/// What a verified token proved, with all that is compared again at each request. Its `nbf` is not:
/// that has passed once and for all.
pub(super) struct Proof {
    pub(super) workload: Arc<Workload>,
    /// The node that the token is bound to, where it says so.
    pub(super) node: Option<String>,
    /// The key set that the signature was checked with.
    pub(super) generation: u64,
}

impl Proof {
    /// Whether the token has not expired at `now`. There is no leeway: a token that has is of no
    /// use to the exchange either.
    pub(super) fn is_valid_at(&self, now: Timestamp) -> bool {
        now < self.workload.token_expires_at
    }
}

impl Audiences {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(audiences) => audiences,
        }
    }
}

impl Claims {
    /// Compares issuer, audience and times, and returns the first of the expected audiences that
    /// the token was made for.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] with what was found and what was expected.
    pub(super) fn check<'a>(&self, expected: &Expected<'a>) -> Result<&'a str, Error> {
        let Expected {
            issuer,
            now,
            furthest,
            ..
        } = *expected;
        if self.iss != issuer {
            return Err(Error::Unauthenticated(format!(
                "the token's issuer is {}, but this node accepts tokens of {}",
                Quoted(&self.iss),
                Quoted(issuer)
            )));
        }
        let found = self.aud.as_slice();
        let Some(audience) = expected.audiences.iter().find(|a| found.contains(a)) else {
            return Err(Error::Unauthenticated(format!(
                "the token's audience is {}, but this node accepts {}: set one of these in the \
                 Pod's projected serviceAccountToken volume",
                Quoted(&found.join(", ")),
                Quoted(&expected.audiences.join(", "))
            )));
        };
        let expires_at = time("exp", self.exp)?;
        if expires_at <= now {
            return Err(Error::Unauthenticated(format!(
                "the token expired at {expires_at}, and this node's clock says {now:.0}: read the \
                 token file again for each request, and compare the clocks"
            )));
        }
        let valid_from = time("nbf", self.nbf)?
            .saturating_sub(expected.leeway)
            .unwrap_or(Timestamp::MIN);
        if furthest < valid_from {
            return Err(Error::Unauthenticated(format!(
                "the token is not valid before {valid_from} ({} s of skew allowed), and this \
                 node's clock says {now:.0}: set the node's clock",
                expected.leeway.as_secs()
            )));
        }
        Ok(audience)
    }

    /// Makes the proof of claims that were verified and [checked](Self::check).
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a token that is bound to no Pod; [`Error::Unauthenticated`] where
    /// the claims contradict each other.
    pub(super) fn prove(
        self,
        token: &str,
        audience: &str,
        generation: u64,
    ) -> Result<Proof, Error> {
        let token_expires_at = time("exp", self.exp)?;
        let identity = Identity::new(&self.iss, &self.sub, audience);
        let unbound = || {
            Error::Forbidden(format!(
                "the token of {} is not bound to a Pod: use the one from the Pod's projected \
                 serviceAccountToken volume",
                Quoted(&self.sub)
            ))
        };
        let kubernetes = self.kubernetes.ok_or_else(unbound)?;
        let (namespace, service_account) = (kubernetes.namespace, kubernetes.serviceaccount.name);
        if self.sub != format!("system:serviceaccount:{namespace}:{service_account}") {
            return Err(Error::Unauthenticated(format!(
                "the token's subject is {}, but it names the ServiceAccount {} in namespace {}",
                Quoted(&self.sub),
                Quoted(&service_account),
                Quoted(&namespace)
            )));
        }
        let pod = kubernetes.pod.ok_or_else(unbound)?;
        let workload = Workload {
            identity,
            pod: Pod {
                uid: PodUid::new(&pod.uid),
                name: pod.name,
                namespace,
                service_account,
            },
            token: Token::new(SecretString::from(token)),
            token_expires_at,
        };
        Ok(Proof {
            workload: Arc::new(workload),
            node: kubernetes.node.map(|node| node.name),
            generation,
        })
    }
}

fn time(claim: &str, seconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_second(seconds).map_err(|_| {
        Error::Unauthenticated(format!("the token's {claim} {seconds} is outside all time"))
    })
}
