//! Namespaces: what they enforce of the Pod Security Standards.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;

use super::kind::{Key, Kind};
use crate::mutate::PodSecurity;

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// The kind.
#[derive(Debug)]
pub struct Namespaces;

impl Kind for Namespaces {
    type Object = Namespace;
    type Value = PodSecurity;
    const NOUN: &'static str = "namespace";
    const RESOURCE: &'static str = "namespaces";

    fn api(client: &kube::Client, _key: &Key) -> Api<Namespace> {
        Api::all(client.clone())
    }

    fn value(metadata: &ObjectMeta) -> PodSecurity {
        let labels = metadata.labels.as_ref();
        match labels
            .and_then(|labels| labels.get(ENFORCE))
            .map(String::as_str)
        {
            Some("baseline") => PodSecurity::Baseline,
            Some("restricted") => PodSecurity::Restricted,
            _ => PodSecurity::Privileged,
        }
    }

    /// Always: it only makes a warning, and a burst of Pods in a new namespace must not become one
    /// of questions.
    fn is_conclusive(_security: &PodSecurity) -> bool {
        true
    }
}
