//! The bytes of an `AdmissionReview` (`admission.k8s.io/v1`): what the API server asks, and what it
//! is answered.
//!
//! Only what the webhook needs is read. The object itself is never logged, and no error repeats any
//! of it: a Pod's variables may be secrets.

mod answer;
mod request;

pub use answer::answer;
pub use request::{Error, Request};
