//! One Pod and what is known about it.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a namespace enforces of the Pod Security Standards, by its label
/// `pod-security.kubernetes.io/enforce`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodSecurity {
    /// Everything is allowed; also where there is no label, or none that is known.
    #[default]
    Privileged,
    /// hostPath volumes are forbidden.
    Baseline,
    /// hostPath volumes are forbidden, and much else.
    Restricted,
}

/// One Pod that is about to be created, and what is known about it.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The Pod as the API server sent it. Fields that we do not know stay as they are.
    pub pod: &'a Value,
    /// The annotations of its ServiceAccount under our prefix, without the prefix.
    pub service_account: &'a BTreeMap<String, String>,
    /// What its namespace enforces.
    pub pod_security: PodSecurity,
    /// Whether it came through the strict webhook: it must not start without credentials.
    pub required: bool,
    /// A random number, for the spread of token expirations.
    pub draw: u32,
}
