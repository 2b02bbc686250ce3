//! What the binaries share.
//!
//! [`contract`] has the names that Pods, nodes and admins see. It needs neither `std` nor an
//! allocator, so that `caios-enroll` stays small. What is behind the feature `node` asks the kernel
//! alone; everything behind `server` is the plumbing of a long-running server, and behind `kubernetes`
//! that of a client of the cluster's API. None of them knows anything of credentials.

#![cfg_attr(not(any(test, feature = "node")), no_std)]

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "kubernetes")]
pub mod api;
#[cfg(feature = "server")]
pub mod causes;
#[cfg(feature = "server")]
pub mod clock;
pub mod contract;
pub mod enrolment;
#[cfg(feature = "server")]
pub mod flags;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod parts;
#[cfg(feature = "node")]
pub mod process;
#[cfg(feature = "server")]
pub mod serve;
#[cfg(feature = "server")]
pub mod shutdown;
#[cfg(feature = "node")]
pub mod socket;
#[cfg(feature = "server")]
pub mod telemetry;
