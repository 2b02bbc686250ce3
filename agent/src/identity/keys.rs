//! An issuer's public keys, and signatures checked with them. Pure.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation};
use serde::{Deserialize, Serialize};

use super::claims::Claims;
use super::quoted::Quoted;
use super::unverified::{Unverified, unreadable};
use crate::error::Error;

/// Sizes of RSA moduli that are accepted, in bits; the upper bound is that of aws-lc.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// An uncompressed point of P-256: a tag and two coordinates of 32 bytes.
const P256_POINT_BYTES: usize = 65;

/// One key and the one algorithm that it may be used with.
pub(super) struct Key {
    id: String,
    jwk: Jwk,
    decoding: DecodingKey,
    validation: Validation,
}

/// The keys of one issuer.
pub(super) struct KeySet {
    /// Grows by one with each set that differs from the one before.
    pub(super) generation: u64,
    /// The issuer that these keys speak for.
    pub(super) issuer: String,
    /// The accepted audiences, in order of preference.
    pub(super) audiences: Vec<String>,
    /// Never empty.
    pub(super) keys: Vec<Key>,
}

/// The keys of one issuer as the next agent gets them.
#[derive(Deserialize, Serialize)]
pub struct SavedKeys {
    /// Where they come from: an agent that takes its keys from elsewhere has no use for them.
    pub(super) source: String,
    pub(super) issuer: String,
    pub(super) keys: Vec<Jwk>,
}

impl Key {
    /// Reads a JSON Web Key Set (RFC 7517) and keeps the keys that a service account token may be
    /// signed with. Entries of other kinds, or that make no sense, are left out.
    ///
    /// # Errors
    /// When the text is not a key set at all.
    pub(super) fn read_set(text: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        /// One bad entry must not cost the good ones, so each is read by itself.
        #[derive(Deserialize)]
        struct Entries {
            keys: Vec<serde_json::Value>,
        }
        let entries: Entries = serde_json::from_slice(text)?;
        let jwks = entries
            .keys
            .into_iter()
            .filter_map(|entry| serde_json::from_value(entry).ok());
        Ok(jwks.filter_map(Self::new).collect())
    }

    /// Takes keys over from another agent.
    pub(super) fn restore(saved: Vec<Jwk>) -> Vec<Self> {
        saved.into_iter().filter_map(Self::new).collect()
    }

    /// Pins the key's type to its algorithm. `None` for a key without an id or of another kind.
    fn new(jwk: Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            _ => return None,
        };
        let common = &jwk.common;
        let stated = common.key_algorithm.unwrap_or_else(|| algorithm.into());
        let usage = common
            .public_key_use
            .as_ref()
            .unwrap_or(&PublicKeyUse::Signature);
        if stated != KeyAlgorithm::from(algorithm) || *usage != PublicKeyUse::Signature {
            return None;
        }
        let id = common.key_id.clone()?;
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        let fits = match decoding.kind() {
            DecodingKeyKind::RsaModulusExponent { n, .. } => RSA_BITS.contains(&bits(n)),
            DecodingKeyKind::SecretOrDer(point) => point.len() == P256_POINT_BYTES,
        };
        // The library's own checks of times use the system's clock, so all of them are off.
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        fits.then_some(Self {
            id,
            jwk,
            decoding,
            validation,
        })
    }
}

/// The length of a big-endian number without its leading zeros.
fn bits(number: &[u8]) -> usize {
    let mut rest = number.iter().skip_while(|byte| **byte == 0);
    rest.next().map_or(0, |first| {
        rest.count() * 8 + first.checked_ilog2().map_or(0, |top| top as usize + 1)
    })
}

impl KeySet {
    /// Whether a set for `issuer` with `keys` would verify the same tokens.
    pub(super) fn is_same(&self, issuer: &str, keys: &[Key]) -> bool {
        let same_keys = self
            .keys
            .iter()
            .map(|k| &k.jwk)
            .eq(keys.iter().map(|k| &k.jwk));
        self.issuer == issuer && same_keys
    }

    /// The keys as they were published.
    pub(super) fn published(&self) -> Vec<Jwk> {
        self.keys.iter().map(|key| key.jwk.clone()).collect()
    }

    /// Whether the key with this id is in the set.
    pub(super) fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// Checks the token's signature. Times, issuer and audience are not looked at.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when the key is not in the set, is for another algorithm, or did
    /// not sign this, and when the claims are not those of a service account token.
    pub(super) fn verify(&self, unverified: &Unverified<'_>) -> Result<Claims, Error> {
        let id = &unverified.key_id;
        let Some(key) = self.keys.iter().find(|key| key.id == *id) else {
            return Err(Error::Unauthenticated(format!(
                "the token says that it is signed with the key {}, which is not a key of the \
                 issuer {}",
                Quoted(id),
                Quoted(&self.issuer)
            )));
        };
        match jsonwebtoken::decode(unverified.token, &key.decoding, &key.validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::Json(error) => unreadable(error),
                _ => Error::Unauthenticated(format!(
                    "the token's signature is not one of the issuer's key {}",
                    Quoted(id)
                )),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::signer::Signer;
    use super::*;

    fn ids(keys: &[Value]) -> Vec<String> {
        let text = json!({ "keys": keys }).to_string();
        let keys = Key::read_set(text.as_bytes()).unwrap();
        keys.into_iter().map(|key| key.id).collect()
    }

    fn changed(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    #[test]
    fn keys_of_other_kinds_are_left_out_and_cost_no_good_one() {
        let (rsa, ec) = (Signer::rsa("rsa").jwk(), Signer::ec("ec").jwk());
        let without_id = {
            let mut jwk = ec.clone();
            jwk.as_object_mut().unwrap().remove("kid");
            jwk
        };
        let kept = ids(&[
            json!({ "kty": "LATTICE", "kid": "unknown", "alg": "ML-DSA-65", "pub": "AA" }),
            json!({ "kty": "oct", "kid": "secret", "k": "c2VjcmV0" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "AA" }),
            json!(7),
            json!({ "kid": 7 }),
            // 1024 bits
            changed(rsa.clone(), "n", json!("_".repeat(171))),
            changed(rsa.clone(), "alg", json!("RS512")),
            changed(rsa.clone(), "use", json!("enc")),
            changed(ec.clone(), "alg", json!("RS256")),
            changed(ec.clone(), "crv", json!("P-384")),
            changed(ec.clone(), "x", json!("AA")),
            without_id,
            rsa,
            ec,
        ]);
        assert_eq!(kept, ["rsa", "ec"]);
    }

    #[test]
    fn a_key_that_states_neither_algorithm_nor_use_is_kept() {
        let mut jwk = Signer::rsa("rsa").jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        assert_eq!(ids(&[jwk]), ["rsa"]);
    }

    #[test]
    fn leading_zeros_do_not_make_a_short_key_long() {
        let short = [[0; 128], [0xff; 128]].concat();
        assert_eq!(bits(&short), 1024);
        assert_eq!(bits(&[0, 1, 0]), 9);
        assert_eq!(bits(&[0, 0]), 0);
    }
}
