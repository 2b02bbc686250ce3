//! The Pods that one listener serves.

use std::sync::{PoisonError, RwLock};

use crate::workload::PodUid;

/// The Pods whose tokens a listener accepts: the one in whose network namespace it is, or all
/// enrolled ones that share the node's namespace (`hostNetwork`).
#[derive(Debug, Default)]
pub struct Tenants(RwLock<Vec<PodUid>>);

impl Tenants {
    /// A listener of one Pod.
    pub fn of(pod: PodUid) -> Self {
        Self(RwLock::new(vec![pod]))
    }

    /// Accepts this Pod's tokens from now on. As often as a Pod enters it must leave.
    pub fn enter(&self, pod: PodUid) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(pod);
    }

    /// Accepts them no more.
    pub fn leave(&self, pod: &PodUid) {
        let mut pods = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = pods.iter().position(|tenant| tenant == pod) {
            pods.swap_remove(at);
        }
    }

    /// Whether this Pod's tokens are accepted.
    pub fn has(&self, pod: &PodUid) -> bool {
        let pods = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pods.contains(pod)
    }

    /// The Pod of a listener that has one alone: who asks there is known without a token.
    pub fn only(&self) -> Option<PodUid> {
        let pods = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match pods.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_a_tenant_until_it_has_left_as_often_as_it_has_entered() {
        let (a, b) = (PodUid::new("a"), PodUid::new("b"));
        let tenants = Tenants::of(a.clone());
        assert_eq!(tenants.only(), Some(a.clone()));
        tenants.enter(b.clone());
        tenants.enter(b.clone());
        assert_eq!(tenants.only(), None);
        tenants.leave(&b);
        assert!(tenants.has(&a) && tenants.has(&b));
        tenants.leave(&b);
        tenants.leave(&b);
        assert!(tenants.has(&a) && !tenants.has(&b));
    }
}
