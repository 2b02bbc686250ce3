//! A cluster's signing key and the claims of its tokens, for tests.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

pub(super) const ISSUER: &str = "https://cluster.example/id/1";
pub(super) const AUDIENCE: &str = "caios";
pub(super) const NODE: &str = "node-a";
pub(super) const POD_UID: &str = "0d1f7a52-0000-4000-8000-000000000001";
/// When the tests begin, in seconds of Unix time.
pub(super) const START: i64 = 1_800_000_000;

/// A private key with its public half.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) id: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    /// RS256. Making such a key takes long, so all tests share one.
    pub(super) fn rsa(id: &str) -> Self {
        static KEY: LazyLock<EncodingKey> = LazyLock::new(|| {
            let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
            let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
            // PKCS #8 wraps the PKCS #1 key that is wanted here in 26 bytes.
            EncodingKey::from_rsa_der(&der.as_ref()[26..])
        });
        Self {
            id: id.to_owned(),
            algorithm: Algorithm::RS256,
            key: KEY.clone(),
        }
    }

    /// ES256, a new key each time.
    pub(super) fn ec(id: &str) -> Self {
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .unwrap();
        Self {
            id: id.to_owned(),
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_der(der.as_ref()),
        }
    }

    /// The public key as an entry of a key set.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    /// The header of this key's tokens.
    pub(super) fn header(&self) -> Header {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        header
    }

    /// Signs `claims` under any header.
    pub(super) fn sign_as(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }

    /// Signs `claims`.
    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }
}

/// A key set with these public keys.
pub(super) fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// The claims of a bound token that is valid for one hour from [`START`].
pub(super) fn claims() -> Value {
    json!({
        "aud": [AUDIENCE],
        "exp": START + 3600,
        "iat": START,
        "iss": ISSUER,
        "jti": "c1",
        "kubernetes.io": {
            "namespace": "team",
            "node": { "name": NODE, "uid": "n1" },
            "pod": { "name": "train-0", "uid": POD_UID },
            "serviceaccount": { "name": "reader", "uid": "s1" },
            "warnafter": START + 1800,
        },
        "nbf": START,
        "sub": "system:serviceaccount:team:reader",
    })
}

/// [`claims`] with `value` at a path like `/kubernetes.io/node`, or without it when `value` is
/// null.
pub(super) fn claims_with(path: &str, value: Value) -> Value {
    let mut claims = claims();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = claims
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .unwrap();
    if value.is_null() {
        parent.remove(name).unwrap();
    } else {
        parent.insert(name.to_owned(), value);
    }
    claims
}
