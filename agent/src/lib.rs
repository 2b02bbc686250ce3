//! The node agent: verifies Pods' service account tokens, exchanges each identity's token once for
//! CAIOS credentials, keeps them in memory, renews them early, and serves them to every SDK.
//!
//! A request goes one way, and its answer comes back as a value:
//!
//! ```text
//! listener ─► serve ─► route ─► identity ─► cache ─► exchange ─► CoreWeave
//! ```
//!
//! `shared::clock`, [`credentials`], [`error`], [`metrics`], [`tenants`] and [`workload`] are leaves: any part
//! may use them, and they use none.

pub mod app;
mod aside;
pub mod broker;
pub mod cache;
pub mod check;
pub mod config;
pub mod credentials;
pub mod csi;
pub mod door;
pub mod enrolment;
pub mod error;
pub mod exchange;
pub mod heir;
pub mod identity;
pub mod jumps;
pub mod link;
pub mod lost;
pub mod metrics;
mod packets;
pub mod prepare;
pub mod published;
pub mod reap;
pub mod reattach;
pub mod route;
pub mod snapshot;
pub mod status;
pub mod supervise;
pub mod tenants;
pub mod trim;
pub mod unanswered;
pub mod volumes;
pub mod watch;
pub mod workload;
