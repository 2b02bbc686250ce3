//! A namespace whose Pods an injector reviews, with a ServiceAccount that it warns of.

use serde_json::Value;
use tests::control_plane::ControlPlane;
use tests::injector::{Injector, Release};

/// The ServiceAccount. It asks for credentials, and for tokens of a lifetime that is none.
pub(crate) const SERVICE_ACCOUNT: &str = "reader";
/// The only warning about its Pods.
pub(crate) const WARNING: &str = "the ServiceAccount's annotation \
                                  caios.coreweave.com/token-expiration is `1d` and is ignored: it \
                                  must be a number of seconds, 600 or more";

/// The namespace and its injector.
pub(crate) struct Warned {
    pub(crate) cluster: &'static ControlPlane,
    pub(crate) namespace: String,
    injector: Injector<'static>,
    /// Outlives its injector.
    _release: Release<'static>,
}

impl Warned {
    /// Makes the namespace, its name beginning with `prefix`, and starts the injector.
    pub(crate) fn new(prefix: &str) -> Self {
        let cluster = ControlPlane::shared();
        let namespace = cluster.namespace(prefix, &[]).unwrap();
        let annotations = [
            ("caios.coreweave.com/inject", "true"),
            ("caios.coreweave.com/token-expiration", "1d"),
        ];
        cluster
            .service_account(&namespace, SERVICE_ACCOUNT, &annotations)
            .unwrap();
        let release = Release::new(cluster, &namespace).unwrap();
        // Not the API server's own audience, which is warned of too.
        let injector = release.injector(&["--audience", "https://coreweave.com/iam"]);
        Self {
            cluster,
            namespace,
            injector: injector.unwrap(),
            _release: release,
        }
    }

    /// A Pod as the API server has it; null when it has none.
    pub(crate) fn pod(&self, name: &str) -> Value {
        let path = format!("/api/v1/namespaces/{}/pods/{name}", self.namespace);
        let answer = self.cluster.get(&path).unwrap();
        if answer.code == 404 {
            return Value::Null;
        }
        answer.accepted().unwrap().body
    }

    /// How many reviews there were.
    pub(crate) fn reviews(&self) -> u64 {
        self.count("caios_injector_review_duration_seconds_count")
    }

    /// How many reviews ended in this decision.
    pub(crate) fn decided(&self, decision: &str) -> u64 {
        self.count(&format!(
            "caios_injector_reviews_total{{decision=\"{decision}\"}}"
        ))
    }

    fn count(&self, series: &str) -> u64 {
        let count = self.injector.admin().series(series).unwrap();
        count.parse().unwrap()
    }
}
