//! Why a workload gets no credentials, in the words that its log and the operator's will show.

use std::time::Duration;

/// The answer to a workload that gets no credentials.
///
/// Messages are written for the person who reads the workload's log: botocore and the Rust object
/// stores print them verbatim. None holds a secret.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The request is not one that an SDK sends; 400.
    #[error("{0}")]
    Malformed(String),
    /// No token, or one that does not prove an identity here; 401.
    #[error("{0}")]
    Unauthenticated(String),
    /// The token is good, but this workload may not have credentials; 403, final.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing unexpired is in memory and none could be had in time; 503.
    #[error("{reason}")]
    Unavailable {
        /// What was tried and what came back.
        reason: String,
        /// When to ask again; whole seconds on the wire, at least one.
        retry_after: Duration,
    },
}

impl Error {
    /// The HTTP status. Never 429, on which some SDKs wait for minutes.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::Unauthenticated(_) => 401,
            Self::Forbidden(_) => 403,
            Self::Unavailable { .. } => 503,
        }
    }

    /// The stable code that goes into the body as `code` and `Code`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "Malformed",
            Self::Unauthenticated(_) => "Unauthenticated",
            Self::Forbidden(_) => "Forbidden",
            Self::Unavailable { .. } => "Unavailable",
        }
    }

    /// How the request counts in `caios_agent_requests_total`.
    pub const fn outcome(&self) -> crate::metrics::Outcome {
        use crate::metrics::Outcome;
        match self {
            Self::Malformed(_) => Outcome::Malformed,
            Self::Unauthenticated(_) => Outcome::Unauthenticated,
            Self::Forbidden(_) => Outcome::Forbidden,
            Self::Unavailable { .. } => Outcome::Unavailable,
        }
    }
}
