//! `ServiceAccounts`: their annotations under our prefix.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use shared::contract::ANNOTATION_PREFIX;

use super::kind::{Key, Kind};

/// Annotations under our prefix, without it. `None` where there are none: most `ServiceAccounts`
/// of a cluster, which then cost no map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(Option<Arc<BTreeMap<String, String>>>);

impl Annotations {
    /// The map, empty where there are none.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.0.as_deref().unwrap_or(&NONE)
    }
}

/// The kind.
#[derive(Debug)]
pub struct ServiceAccounts;

impl Kind for ServiceAccounts {
    type Object = ServiceAccount;
    type Value = Annotations;
    const NOUN: &'static str = "ServiceAccount";
    const RESOURCE: &'static str = "serviceaccounts";

    fn api(client: &kube::Client, key: &Key) -> Api<ServiceAccount> {
        Api::namespaced(client.clone(), &key.namespace)
    }

    fn value(metadata: &ObjectMeta) -> Annotations {
        let all = metadata.annotations.iter().flatten();
        let ours: BTreeMap<_, _> = all
            .filter_map(|(name, value)| {
                let name = name.strip_prefix(ANNOTATION_PREFIX)?;
                Some((name.to_owned(), value.clone()))
            })
            .collect();
        Annotations((!ours.is_empty()).then(|| Arc::new(ours)))
    }

    fn is_conclusive(annotations: &Annotations) -> bool {
        annotations.0.is_some()
    }
}
