//! The signing keys of an issuer.

use anyhow::Result;
use jsonwebtoken::{
    EncodingKey,
    jwk::{Jwk, PublicKeyUse},
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};

use crate::{Algorithm, random};

/// One signing key.
#[derive(Clone)]
pub(super) struct SigningKey {
    pub(super) id: String,
    pub(super) algorithm: jsonwebtoken::Algorithm,
    pub(super) private: EncodingKey,
    /// The public key, PEM.
    pub(super) public: String,
    jwk: Jwk,
}

impl SigningKey {
    fn new(pair: &KeyPair, algorithm: Algorithm) -> Result<Self> {
        let pem = pair.serialize_pem();
        let private = match algorithm {
            Algorithm::Rs256 => EncodingKey::from_rsa_pem(pem.as_bytes())?,
            Algorithm::Es256 => EncodingKey::from_ec_pem(pem.as_bytes())?,
        };
        let algorithm = self::algorithm(algorithm);
        let id = random::hex(16);
        let mut jwk = Jwk::from_encoding_key(&private, algorithm)?;
        jwk.common.key_id = Some(id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            id,
            algorithm,
            private,
            public: pair.public_key_pem(),
            jwk,
        })
    }
}

/// One key of each algorithm.
#[derive(Clone)]
pub(super) struct KeySet {
    pub(super) rsa: SigningKey,
    ec: SigningKey,
}

impl KeySet {
    pub(super) fn generate() -> Result<Self> {
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self {
            rsa: SigningKey::new(&rsa, Algorithm::Rs256)?,
            ec: SigningKey::new(&ec, Algorithm::Es256)?,
        })
    }

    pub(super) fn key(&self, algorithm: Algorithm) -> &SigningKey {
        match algorithm {
            Algorithm::Rs256 => &self.rsa,
            Algorithm::Es256 => &self.ec,
        }
    }

    pub(super) fn jwks(&self) -> [Jwk; 2] {
        [self.rsa.jwk.clone(), self.ec.jwk.clone()]
    }
}

pub(super) fn algorithm(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
    }
}
