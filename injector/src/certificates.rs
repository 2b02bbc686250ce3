//! The serving certificate: where it comes from, and how it is renewed without a lost review.
//!
//! Managed: a certificate authority and a certificate in one Secret, which all replicas share.
//! `plan` says what is to be done and knows no API; [`Managed`] does it. An authority is changed
//! in steps, an overlap apart: the new one is published beside the old one in `caBundle`, then it
//! signs the certificate, then the old one is dropped.

mod authority;
mod bundle;
mod directory;
mod managed;
mod material;
mod period;
mod plan;
mod secret;
mod status;
#[cfg(test)]
mod tests;

pub use self::directory::Directory;
pub use self::managed::Managed;
pub use self::status::Status;
