//! A stand-in for everything the agent talks to outside its node: a cluster's token issuer, the
//! key exchange of CoreWeave's API, and an S3 server that checks signatures, expiry and policy.
//!
//! [`Standin::start`] plays all three on addresses of the caller's choice. There is no global
//! state: several instances run side by side, each in the network namespace and the runtime it
//! was started in.

mod api;
mod behaviour;
mod calls;
mod clock;
pub mod control;
mod issuer;
mod keys;
mod options;
mod pki;
mod policy;
mod random;
mod s3;
mod seconds;
mod serve;
mod standin;
mod token;

pub use behaviour::{Behaviour, CutPoint, ExpiryForm, Malformation, Scope};
pub use calls::{Call, Calls, Endpoint};
pub use options::Options;
pub use s3::{Addressing, S3Request};
pub use serve::TlsMode;
pub use standin::{Part, Standin};
pub use token::{Algorithm, Flaw, TokenSpec};
