//! A token before its signature is checked. Pure.

use jsonwebtoken::{Algorithm, dangerous};

use super::claims::Claims;
use super::quoted::Quoted;
use crate::error::Error;

/// What can be read from a token before its signature is checked.
pub(super) struct Unverified<'a> {
    /// The whole token.
    pub(super) token: &'a str,
    /// The id of the key that is said to have signed it.
    pub(super) key_id: String,
}

impl<'a> Unverified<'a> {
    /// Reads the token's header.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when this is not a signed JSON Web Token, or one that no key of
    /// a cluster can have signed.
    pub(super) fn new(token: &'a str) -> Result<Self, Error> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| {
            Error::Unauthenticated(
                "the Authorization header is not a signed JSON Web Token: send the Pod's service \
                 account token"
                    .to_owned(),
            )
        })?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(Error::Unauthenticated(format!(
                "the token is signed with {:?}; only RS256 and ES256 are accepted",
                header.alg
            )));
        }
        // RFC 7515 §4.1.11: an extension that is marked critical and not understood must fail.
        if header.crit.is_some() {
            return Err(Error::Unauthenticated(
                "the token's header has critical extensions, which no service account token has"
                    .to_owned(),
            ));
        }
        let key_id = header.kid.ok_or_else(|| {
            Error::Unauthenticated("the token's header does not name its key (kid)".to_owned())
        })?;
        Ok(Self { token, key_id })
    }

    /// The claims as anyone may have written them: good to refuse a token, never to accept it.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when they are not those of a service account token.
    pub(super) fn claims(&self) -> Result<Claims, Error> {
        dangerous::insecure_decode_claims(self.token).map_err(unreadable)
    }
}

/// Says that claims cannot be read.
pub(super) fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Unauthenticated(format!(
        "the token's claims are not those of a service account token: {}",
        Quoted(&error.to_string())
    ))
}
