//! A cluster's token issuer: keys, tokens with the claims of bound service account tokens,
//! discovery and JWKS.

mod keys;
mod serve;

use std::sync::{PoisonError, RwLock};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey, Header, Validation,
    jwk::{Jwk, JwkSet},
};
use serde_json::{Value, json};

use self::keys::KeySet;
pub(crate) use self::serve::IssuerHandler;
use crate::{Algorithm, Flaw, TokenSpec, clock, random};

/// Signs tokens and publishes the keys they verify with.
pub(crate) struct Issuer {
    url: String,
    current: RwLock<KeySet>,
    published: RwLock<Vec<KeySet>>,
    /// Keys of issuers elsewhere.
    foreign: RwLock<Vec<Jwk>>,
    /// Never published; signs the tokens of [`Flaw::WrongKey`].
    stranger: KeySet,
}

impl Issuer {
    /// Makes an issuer with fresh keys.
    ///
    /// # Errors
    /// Keys cannot be generated.
    pub(crate) fn new(url: String) -> Result<Self> {
        let current = KeySet::generate()?;
        Ok(Self {
            url,
            published: RwLock::new(vec![current.clone()]),
            current: RwLock::new(current),
            foreign: RwLock::default(),
            stranger: KeySet::generate()?,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Signs with new keys from now on; the old ones stay published with `keep_old`.
    pub(crate) fn rotate(&self, keep_old: bool) -> Result<()> {
        let fresh = KeySet::generate()?;
        let mut published = self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !keep_old {
            published.clear();
        }
        published.push(fresh.clone());
        drop(published);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The published keys.
    pub(crate) fn jwks(&self) -> JwkSet {
        let published = self
            .published
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        JwkSet {
            keys: published.iter().flat_map(KeySet::jwks).collect(),
        }
    }

    /// Accepts tokens signed by these keys too.
    pub(crate) fn accept(&self, keys: JwkSet) {
        let mut foreign = self.foreign.write().unwrap_or_else(PoisonError::into_inner);
        foreign.extend(keys.keys);
    }

    /// The key of this id, published here or accepted from elsewhere.
    fn find(&self, id: &str) -> Option<Jwk> {
        let foreign = self.foreign.read().unwrap_or_else(PoisonError::into_inner);
        let mut keys = self.jwks().keys;
        keys.extend(foreign.iter().cloned());
        JwkSet { keys }.find(id).cloned()
    }

    /// Makes a token.
    pub(crate) fn token(&self, spec: &TokenSpec) -> Result<String> {
        let current = self
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let claims = self.claims(spec);
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        match spec.flaw {
            Some(Flaw::AlgNone) => {
                let header = json!({"alg": "none", "kid": current.rsa.id});
                Ok(format!("{}.{}.", part(&header), part(&claims)))
            }
            Some(Flaw::Hs256WithPublicKey) => {
                let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
                header.kid = Some(current.rsa.id.clone());
                let secret = jsonwebtoken::EncodingKey::from_secret(current.rsa.public.as_bytes());
                Ok(jsonwebtoken::encode(&header, &claims, &secret)?)
            }
            flaw => {
                let named = current.key(spec.algorithm);
                let signing = if flaw == Some(Flaw::WrongKey) {
                    self.stranger.key(spec.algorithm)
                } else {
                    named
                };
                let mut header = Header::new(named.algorithm);
                header.typ = None;
                header.kid = Some(named.id.clone());
                Ok(jsonwebtoken::encode(&header, &claims, &signing.private)?)
            }
        }
    }

    fn claims(&self, spec: &TokenSpec) -> Value {
        let now = clock::now().as_second();
        let audiences = if spec.audiences.is_empty() {
            vec![self.url.clone()]
        } else {
            spec.audiences.clone()
        };
        let expires = now.saturating_add(spec.expires_in);
        let issued = now.min(expires.saturating_sub(1));
        let mut claims = json!({
            "aud": audiences,
            "exp": expires,
            "iat": issued,
            "iss": self.url,
            "jti": random::uuid(),
            "kubernetes.io": {
                "namespace": spec.namespace,
                "node": {"name": spec.node, "uid": random::uuid()},
                "pod": {"name": spec.pod_name, "uid": spec.pod_uid},
                "serviceaccount": {"name": spec.service_account, "uid": random::uuid()},
                "warnafter": issued.saturating_add(3607),
            },
            "nbf": issued,
            "sub": spec.subject(),
        });
        let mut set = |pointer: &str, value: Value| {
            if let Some(claim) = claims.pointer_mut(pointer) {
                *claim = value;
            }
        };
        match spec.flaw {
            Some(Flaw::WrongIssuer) => set("/iss", "https://issuer.invalid/other".into()),
            Some(Flaw::WrongAudience) => set("/aud", json!(["https://audience.invalid"])),
            Some(Flaw::Expired) => {
                set("/exp", (now - 3600).into());
                set("/iat", (now - 7200).into());
                set("/nbf", (now - 7200).into());
            }
            Some(Flaw::NotYetValid) => {
                set("/nbf", (now + 3600).into());
                set("/exp", (now + 7200).into());
            }
            Some(Flaw::StringExp) => set("/exp", expires.to_string().into()),
            Some(Flaw::NoPodClaim) => {
                if let Some(bound) = claims
                    .pointer_mut("/kubernetes.io")
                    .and_then(Value::as_object_mut)
                {
                    bound.remove("pod");
                    bound.remove("node");
                }
            }
            _ => {}
        }
        claims
    }

    /// Checks signature, expiry and `nbf` against the published and accepted keys and returns the
    /// claims.
    ///
    /// # Errors
    /// The token is not valid now, or not signed by such a key.
    pub(crate) fn verify(&self, token: &str) -> Result<Value> {
        let header = jsonwebtoken::decode_header(token)?;
        let kid = header.kid.context("the token names no key")?;
        let jwk = self.find(&kid).context("the key id is unknown")?;
        let algorithm = match header.alg {
            jsonwebtoken::Algorithm::RS256 => Algorithm::Rs256,
            jsonwebtoken::Algorithm::ES256 => Algorithm::Es256,
            other => anyhow::bail!("the algorithm {other:?} is not accepted"),
        };
        let mut validation = Validation::new(keys::algorithm(algorithm));
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        let key = DecodingKey::from_jwk(&jwk)?;
        Ok(jsonwebtoken::decode::<Value>(token, &key, &validation)?.claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_tokens_verify_and_bad_ones_do_not() {
        let issuer = Issuer::new("https://issuer.test".into()).unwrap();
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let mut spec = TokenSpec::new("ns", "sa");
            spec.algorithm = algorithm;
            let claims = issuer.verify(&issuer.token(&spec).unwrap()).unwrap();
            assert_eq!(claims["sub"], "system:serviceaccount:ns:sa");
            assert_eq!(claims["kubernetes.io"]["pod"]["uid"], spec.pod_uid);
        }
        for flaw in [
            Flaw::AlgNone,
            Flaw::Hs256WithPublicKey,
            Flaw::WrongKey,
            Flaw::Expired,
            Flaw::NotYetValid,
            Flaw::StringExp,
        ] {
            let token = issuer
                .token(&TokenSpec::new("ns", "sa").flaw(flaw))
                .unwrap();
            assert!(issuer.verify(&token).is_err(), "{flaw:?} was accepted");
        }
    }

    #[test]
    fn old_tokens_verify_after_a_rotation_only_while_old_keys_are_kept() {
        let issuer = Issuer::new("https://issuer.test".into()).unwrap();
        let token = issuer.token(&TokenSpec::new("ns", "sa")).unwrap();
        issuer.rotate(true).unwrap();
        assert!(issuer.verify(&token).is_ok());
        issuer.rotate(false).unwrap();
        assert!(issuer.verify(&token).is_err());
    }
}
