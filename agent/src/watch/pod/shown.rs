//! The parts of a Pod that are read, as the API server writes them.

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
pub(super) struct Shown {
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) uid: String,
    pub(super) resource_version: Option<String>,
    pub(super) deletion_timestamp: Option<IgnoredAny>,
    pub(super) annotations: Option<Annotations>,
    pub(super) labels: Option<Labels>,
}

#[derive(Deserialize)]
pub(super) struct Annotations {
    #[serde(rename = "caios.coreweave.com/inject")]
    pub(super) inject: Option<String>,
    #[serde(rename = "kubernetes.io/config.mirror")]
    pub(super) mirror: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Labels {
    #[serde(rename = "caios.coreweave.com/inject")]
    pub(super) inject: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    pub(super) node_name: String,
    pub(super) service_account_name: Option<String>,
    #[serde(default)]
    pub(super) host_network: bool,
    #[serde(default)]
    pub(super) init_containers: Vec<InitContainer>,
    #[serde(default)]
    pub(super) volumes: Vec<Named>,
}

#[derive(Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct InitContainer {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
}

#[derive(Default, Deserialize)]
pub(super) struct Status {
    pub(super) phase: Option<String>,
    #[serde(default)]
    pub(super) conditions: Vec<Condition>,
    #[serde(default, rename = "podIPs")]
    pub(super) addresses: Vec<Address>,
}

#[derive(Deserialize)]
pub(super) struct Condition {
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) status: String,
}

#[derive(Deserialize)]
pub(super) struct Address {
    #[serde(default)]
    pub(super) ip: String,
}
