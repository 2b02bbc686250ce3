//! The mutating webhook: points annotated Pods at their node's agent.
//!
//! A review goes one way, and its answer comes back as a value:
//!
//! ```text
//! API server ─► serve (TLS) ─► route ─► review ─► decide ─► mutate
//!                                                   │
//!                                                   └─► lookup (memory, or the API)
//! ```
//!
//! [`mutate`] is a pure function and holds every decision about a Pod; [`route`] alone turns what
//! happens into HTTP, a count and a log line. Beside that path stand [`certificates`], which keeps
//! what [`tls`] serves, and [`config`]. [`app`] builds the parts.

pub mod api;
pub mod app;
pub mod certificates;
pub mod config;
pub mod decide;
pub mod lookup;
pub mod metrics;
pub mod mutate;
pub mod name;
pub mod own_token;
pub mod review;
pub mod route;
pub mod tls;
