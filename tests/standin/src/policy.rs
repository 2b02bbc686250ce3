//! The organisation's access policy and its Workload Identity Federation configuration.

use std::{
    collections::{HashMap, HashSet},
    sync::{PoisonError, RwLock},
};

/// The action an exchange needs.
pub(crate) const EXCHANGE: &str = "cwobject:CreateAccessKeyOIDC";

#[derive(Default)]
struct Rules {
    granted: HashMap<String, HashSet<String>>,
    federated: HashSet<(String, String)>,
}

/// Who may do what. Nothing is granted at first.
#[derive(Default)]
pub(crate) struct Policy(RwLock<Rules>);

impl Policy {
    /// Grants `actions` (exact names, `s3:*` or `*`) to `principal`, or to all with `*`.
    pub(crate) fn grant(&self, principal: &str, actions: &[&str]) {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rules
            .granted
            .entry(principal.to_owned())
            .or_default()
            .extend(actions.iter().map(|&action| action.to_owned()));
    }

    /// Takes everything from `principal` that was granted to it by name.
    pub(crate) fn revoke(&self, principal: &str) {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rules.granted.remove(principal);
    }

    /// Tells whether `principal` may do `action`.
    pub(crate) fn allows(&self, principal: &str, action: &str) -> bool {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let service = action.split(':').next().unwrap_or_default();
        [principal, "*"].iter().any(|who| {
            rules.granted.get(*who).is_some_and(|actions| {
                actions.contains(action)
                    || actions.contains("*")
                    || actions.contains(&format!("{service}:*"))
            })
        })
    }

    /// Registers an issuer with one audience; both must match a token exactly.
    pub(crate) fn register(&self, issuer: &str, audience: &str) {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rules.federated.insert((issuer.into(), audience.into()));
    }

    /// Undoes [`Policy::register`].
    pub(crate) fn unregister(&self, issuer: &str, audience: &str) {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rules.federated.remove(&(issuer.into(), audience.into()));
    }

    /// Tells whether tokens of `issuer` for any of `audiences` are accepted.
    pub(crate) fn federates(&self, issuer: &str, audiences: &[String]) -> bool {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        audiences
            .iter()
            .any(|audience| rules.federated.contains(&(issuer.into(), audience.clone())))
    }
}
