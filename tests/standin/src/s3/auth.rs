//! Looks secrets up among the minted keys.

use std::sync::Arc;

use s3s::{
    S3Result,
    auth::{S3Auth, SecretKey},
    s3_error,
};

use crate::{clock, standin::State};

/// The minted keys, as s3s asks for them.
pub(super) struct MintedKeys(pub(super) Arc<State>);

#[async_trait::async_trait]
impl S3Auth for MintedKeys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.keys.find(access_key) {
            Some(key) if key.expires > clock::now() => Ok(key.secret.into()),
            Some(_) => Err(s3_error!(ExpiredToken, "The access key has expired")),
            None => Err(s3_error!(
                InvalidAccessKeyId,
                "The access key does not exist"
            )),
        }
    }
}
