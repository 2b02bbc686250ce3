//! The messages of the Container Storage Interface (`csi.proto` of version 1) and of the kubelet's
//! plugin registration (`pluginregistration/v1/api.proto`), as far as their fields are used here.
//!
//! What may hold a token has no `Debug`.

use std::collections::HashMap;

/// A request or an answer without a field that matters here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

/// `csi.v1.GetPluginInfoResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginInfo {
    /// The driver's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub vendor_version: String,
}

/// `csi.v1.NodeGetInfoResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeInfo {
    /// The node, as the driver calls it.
    #[prost(string, tag = "1")]
    pub node_id: String,
}

/// `csi.v1.VolumeCapability`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VolumeCapability {
    /// A device is wanted, not a directory.
    #[prost(message, optional, tag = "1")]
    pub block: Option<Empty>,
}

/// `csi.v1.NodePublishVolumeRequest`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct PublishRequest {
    /// The volume; the kubelet makes it of Pod and volume name.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Where it is to be.
    #[prost(string, tag = "4")]
    pub target_path: String,
    /// What kind of volume it is.
    #[prost(message, optional, tag = "5")]
    pub volume_capability: Option<VolumeCapability>,
    /// Whether the Pod may only read.
    #[prost(bool, tag = "6")]
    pub readonly: bool,
    /// Holds tokens with `serviceAccountTokenInSecrets`.
    #[prost(map = "string, string", tag = "7")]
    pub secrets: HashMap<String, String>,
    /// What the Pod's volume says, what the kubelet knows of the Pod, and otherwise the tokens.
    #[prost(map = "string, string", tag = "8")]
    pub volume_context: HashMap<String, String>,
}

/// `csi.v1.NodeUnpublishVolumeRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UnpublishRequest {
    /// The volume.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Where it is.
    #[prost(string, tag = "2")]
    pub target_path: String,
}

/// `pluginregistration.PluginInfo`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisteredPlugin {
    /// `CSIPlugin`.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// The driver's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Path of the driver's socket on the node.
    #[prost(string, tag = "3")]
    pub endpoint: String,
    /// Versions of the interface.
    #[prost(string, repeated, tag = "4")]
    pub supported_versions: Vec<String>,
}

/// `pluginregistration.RegistrationStatus`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegistrationStatus {
    /// Whether the kubelet took the driver.
    #[prost(bool, tag = "1")]
    pub plugin_registered: bool,
    /// Why not.
    #[prost(string, tag = "2")]
    pub error: String,
}
