//! One exchange: a service account token for credentials.
//!
//! Knows nothing of Pods that wait, of retries or of memory: it is asked once and answers once.

mod client;
pub mod coreweave;
mod fallback;
mod refusal;
mod retry_after;
#[cfg(test)]
mod scripted_server;
pub mod settings;
mod wire;

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::credentials::Credentials;
use crate::workload::{Identity, Token};

/// Exchanges tokens for credentials. The one seam of the agent besides time: the cache is driven
/// through it under paused time, where real sockets cannot be.
pub trait Exchange: Send + Sync + 'static {
    /// Exchanges `token`, which proves `identity`, for new credentials.
    ///
    /// Sends one request, or two where POST is refused and GET is tried. At most one key is minted.
    ///
    /// # Errors
    /// [`ExchangeError`], which says whether it may be tried again.
    ///
    /// # Cancel safety
    /// Not safe: a key may have been minted that nobody gets. Run it in a task of its own.
    fn exchange(
        &self,
        identity: &Identity,
        token: &Token,
    ) -> impl Future<Output = Result<Credentials, ExchangeError>> + Send;

    /// Until when `identity` gets keys of GET, because POST is refused to it; `None` for one that does
    /// not, and where there are no two methods.
    fn on_get_until(&self, _identity: &Identity) -> Option<Instant> {
        None
    }

    /// Goes on with GET for `identity` until then, as the agent before this one did.
    fn go_on_with_get(&self, _identity: &Identity, _until: Instant) {}
}

/// Why an exchange gave no credentials, by what may be done next. Messages hold no secret.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExchangeError {
    /// 400, 401, 403 or 404: the issuer will not mint for this token. The message names the
    /// principal and what to grant.
    #[error("{message}")]
    Refused {
        /// The issuer's status.
        status: u16,
        /// What the issuer said and what to do.
        message: String,
    },
    /// 429: too many calls. Nothing was minted.
    #[error("{message}")]
    Throttled {
        /// The issuer's `Retry-After`, where it sent one.
        retry_after: Option<Duration>,
        /// What was tried and what came back.
        message: String,
    },
    /// 503, 504, or no connection: nothing was minted, so it may be tried again soon.
    #[error("{message}")]
    Unavailable {
        /// The issuer's `Retry-After`, where it sent one.
        retry_after: Option<Duration>,
        /// What was tried and what came back.
        message: String,
    },
    /// Anything else after the request was sent: a key may have been minted, so it must not be
    /// tried again at once.
    #[error("{message}")]
    Uncertain {
        /// What was tried and what came back.
        message: String,
    },
}
