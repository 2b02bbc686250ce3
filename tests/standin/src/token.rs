//! What a service account token is to say, and what is to be wrong with it.

use serde::{Deserialize, Serialize};

use crate::random;

/// The signature of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// RSA with SHA-256, the kube-apiserver's usual one.
    #[default]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

/// One thing wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// `alg: none` and no signature.
    AlgNone,
    /// HS256 with the issuer's public RSA key (PEM) as the secret.
    Hs256WithPublicKey,
    /// Signed by a key that is not the issuer's, under the issuer's key id.
    WrongKey,
    /// Another issuer.
    WrongIssuer,
    /// Another audience.
    WrongAudience,
    /// Expired an hour ago.
    Expired,
    /// Valid from an hour ahead.
    NotYetValid,
    /// `exp` as a string.
    StringExp,
    /// Bound to no Pod (and no node).
    NoPodClaim,
}

/// A service account token to be made; set the fields that matter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenSpec {
    /// The Pod's namespace.
    pub namespace: String,
    /// The `ServiceAccount`'s name.
    pub service_account: String,
    /// The Pod's name.
    pub pod_name: String,
    /// The Pod's uid; random by default.
    pub pod_uid: String,
    /// The node's name.
    pub node: String,
    /// The audiences; the issuer URL when empty.
    pub audiences: Vec<String>,
    /// Seconds from now until expiry; negative for an expired token.
    pub expires_in: i64,
    /// How it is signed.
    pub algorithm: Algorithm,
    /// What is wrong with it.
    pub flaw: Option<Flaw>,
}

impl Default for TokenSpec {
    fn default() -> Self {
        Self {
            namespace: "default".into(),
            service_account: "default".into(),
            pod_name: "pod-0".into(),
            pod_uid: random::uuid(),
            node: "node-0".into(),
            audiences: Vec::new(),
            expires_in: 3600,
            algorithm: Algorithm::default(),
            flaw: None,
        }
    }
}

impl TokenSpec {
    /// A good token of `service_account` in `namespace`, with a Pod of its own.
    pub fn new(namespace: impl Into<String>, service_account: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            service_account: service_account.into(),
            ..Self::default()
        }
    }

    /// Sets the Pod.
    #[must_use]
    pub fn pod(mut self, name: impl Into<String>, uid: impl Into<String>) -> Self {
        self.pod_name = name.into();
        self.pod_uid = uid.into();
        self
    }

    /// Sets the node.
    #[must_use]
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.node = name.into();
        self
    }

    /// Adds an audience.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Makes it a bad token.
    #[must_use]
    pub fn flaw(mut self, flaw: Flaw) -> Self {
        self.flaw = Some(flaw);
        self
    }

    /// The `sub` of the token.
    pub fn subject(&self) -> String {
        format!(
            "system:serviceaccount:{}:{}",
            self.namespace, self.service_account
        )
    }
}
