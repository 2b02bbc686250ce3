//! The Pods that one listener serves.

use std::sync::{Arc, PoisonError, RwLock};

use crate::workload::PodUid;

/// The Pods whose tokens a listener accepts: the one in whose network namespace it is, or all
/// enrolled ones that share the node's namespace (`hostNetwork`).
#[derive(Debug, Default)]
pub struct Tenants(RwLock<Present>);

#[derive(Debug, Default)]
struct Present {
    pods: Vec<PodUid>,
    /// The last that has left. The listener ends with it, but what was accepted before is still to be
    /// answered.
    last: Option<PodUid>,
}

/// A Pod is a tenant until this is dropped.
#[derive(Debug)]
pub struct Tenancy {
    tenants: Arc<Tenants>,
    pod: PodUid,
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        self.tenants.leave(&self.pod);
    }
}

impl Tenants {
    /// A listener of one Pod.
    pub fn of(pod: PodUid) -> Self {
        let pods = vec![pod];
        Self(RwLock::new(Present { pods, last: None }))
    }

    /// Accepts this Pod's tokens until what comes back is dropped.
    ///
    /// The first Pod enters before its listener is served: a connection may have waited there since
    /// the agent before, and is asked for its token at once.
    pub fn enter(self: &Arc<Self>, pod: PodUid) -> Tenancy {
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        present.last = None;
        present.pods.push(pod.clone());
        Tenancy {
            tenants: Arc::clone(self),
            pod,
        }
    }

    fn leave(&self, pod: &PodUid) {
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = present.pods.iter().position(|tenant| tenant == pod) {
            let left = present.pods.swap_remove(at);
            present.last = present.pods.is_empty().then_some(left);
        }
    }

    /// Whether this Pod's tokens are accepted.
    pub fn has(&self, pod: &PodUid) -> bool {
        let present = self.0.read().unwrap_or_else(PoisonError::into_inner);
        present.pods.contains(pod) || present.last.as_ref() == Some(pod)
    }

    /// The Pod of a listener that has one alone: who asks there is known without a token.
    pub fn only(&self) -> Option<PodUid> {
        let present = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match present.pods.as_slice() {
            [] => present.last.clone(),
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
        let tenants = Arc::new(Tenants::default());
        let of_a = tenants.enter(a.clone());
        assert_eq!(tenants.only(), Some(a.clone()));
        let of_b = [tenants.enter(b.clone()), tenants.enter(b.clone())];
        assert_eq!(tenants.only(), None);
        let [first, second] = of_b;
        drop(first);
        assert!(tenants.has(&a) && tenants.has(&b));
        drop(second);
        assert!(tenants.has(&a) && !tenants.has(&b));
        drop(of_a);
    }

    #[test]
    fn what_a_listener_has_accepted_is_still_its_last_pods_until_another_enters() {
        let (a, b) = (PodUid::new("a"), PodUid::new("b"));
        let tenants = Arc::new(Tenants::default());
        drop(tenants.enter(a.clone()));
        assert!(tenants.has(&a));
        assert_eq!(tenants.only(), Some(a.clone()));
        let _of_b = tenants.enter(b.clone());
        assert!(tenants.has(&b) && !tenants.has(&a));
    }
}
