//! What a person sees of a running agent: `caios-agent status`.
//!
//! The agent answers with a [`Document`] on `admin.sock`, which its own user alone may open; the
//! command asks for it and prints a table. Neither a key nor a token is in it, nor the id of a key.

mod advice;
mod ask;
mod document;
mod ledger;
mod listener;
mod reporter;
mod span;
mod table;
#[cfg(test)]
mod tests;

pub use ask::{AskError, ask, read};
pub use document::{
    Breaker, CoreWeave, Document, Failure, Identity, IssuerKeys, Key, PodLine, Problem, Refusal,
    Requirement, Unserved, UnservedReason, UnservedView,
};
pub use ledger::{Ledger, Listed};
pub use listener::StatusSocket;
pub use reporter::{Reporter, Sources};
pub use table::render;

/// The path of the one resource on `admin.sock`.
const PATH: &str = "/status";
