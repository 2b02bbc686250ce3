//! The mutating webhook: points annotated Pods at their node's agent.
//!
//! A review goes one way, and its answer comes back as a value:
//!
//! ```text
//! API server ─► serve (TLS) ─► review ─► mutate ─► review ─► API server
//! ```
//!
//! [`mutate`] is a pure function and holds every decision.

pub mod mutate;
pub mod review;
