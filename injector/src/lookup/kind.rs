//! What is the same for every kind of object that is looked up.

use std::fmt;
use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::Api;
use serde::de::DeserializeOwned;

use crate::name::is_name;

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its namespace; empty where the object has none.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

impl Key {
    /// Names an object.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Whether there can be an object of this name.
    pub fn is_valid(&self) -> bool {
        is_name(&self.name) && (self.namespace.is_empty() || is_name(&self.namespace))
    }
}

/// As `kubectl` writes it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "`{}`", self.name)
        } else {
            write!(f, "`{}/{}`", self.namespace, self.name)
        }
    }
}

/// A kind of object, and the little that is kept of one.
pub trait Kind: Send + Sync + 'static {
    /// The object. Only its metadata is ever read.
    type Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static;
    /// What is kept of it.
    type Value: Clone + Debug + PartialEq + Send + Sync + 'static;
    /// Its name in a sentence.
    const NOUN: &'static str;
    /// Its name in a rule of a `ClusterRole`.
    const RESOURCE: &'static str;

    /// Where one object is asked for.
    fn api(client: &kube::Client, key: &Key) -> Api<Self::Object>;

    /// Takes what is kept out of an object's metadata.
    fn value(metadata: &ObjectMeta) -> Self::Value;

    /// Whether this is believed of an object however young it is. What is not is asked of the API
    /// once more while the object may still be being set up.
    fn is_conclusive(value: &Self::Value) -> bool;
}
