//! The raw Pod, read once: its lists, and its containers with what they set.

use serde_json::Value;
use shared::contract::{ANNOTATION_PREFIX, REQUIRED_LABEL};

use super::container::Container;
use super::list::{List, Malformed, list};

/// What a Pod is marked with; readable whatever the rest of it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata<'a>(&'a Value);

impl<'a> Metadata<'a> {
    /// The metadata of a raw Pod.
    pub(super) fn of(pod: &'a Value) -> Self {
        Self(pod.get("metadata").unwrap_or(&Value::Null))
    }

    /// An annotation under our prefix, named without it.
    pub(super) fn annotation(self, name: &str) -> Option<&'a str> {
        let annotations = self.0.get("annotations")?;
        annotations
            .get(format!("{ANNOTATION_PREFIX}{name}"))?
            .as_str()
    }

    /// The label by which the strict webhook selects.
    pub(super) fn label(self) -> Option<&'a str> {
        self.0.get("labels")?.get(REQUIRED_LABEL)?.as_str()
    }

    /// Whether the kubelet made the Pod for a static one: it runs already, without a
    /// ServiceAccount.
    pub(super) fn is_mirror(self) -> bool {
        self.0
            .get("annotations")
            .is_some_and(|annotations| annotations.get("kubernetes.io/config.mirror").is_some())
    }
}

/// What a Pod runs.
#[derive(Debug)]
pub(super) struct Pod<'a> {
    spec: &'a Value,
    pub(super) volumes: List<'a>,
    pub(super) init_containers: List<'a>,
    /// All of them, the init containers first.
    pub(super) containers: Vec<Container<'a>>,
}

impl<'a> Pod<'a> {
    pub(super) fn read(pod: &'a Value) -> Result<Self, Malformed> {
        let spec = pod
            .get("spec")
            .filter(|spec| spec.is_object())
            .ok_or_else(|| Malformed("/spec".to_owned()))?;
        let init_containers = list(spec, "initContainers", "/spec")?;
        let mut containers = Vec::new();
        for (field, items) in [
            ("initContainers", init_containers),
            ("containers", list(spec, "containers", "/spec")?),
        ] {
            for (index, item) in items.unwrap_or_default().iter().enumerate() {
                containers.push(Container::read(item, format!("/spec/{field}/{index}"))?);
            }
        }
        Ok(Self {
            spec,
            volumes: list(spec, "volumes", "/spec")?,
            init_containers,
            containers,
        })
    }

    /// What is at a JSON pointer below `spec`; `None` for null.
    pub(super) fn at(&self, pointer: &str) -> Option<&'a Value> {
        self.spec.pointer(pointer).filter(|value| !value.is_null())
    }

    /// The text at a JSON pointer below `spec`.
    pub(super) fn text(&self, pointer: &str) -> Option<&'a str> {
        self.at(pointer)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_missing_list_and_a_null_are_the_same() {
        for pod in [
            json!({"spec": {"containers": []}}),
            json!({"spec": {"containers": [], "volumes": null, "initContainers": null}}),
        ] {
            let pod = Pod::read(&pod).unwrap();
            assert!(pod.volumes.is_none() && pod.init_containers.is_none());
        }
    }

    #[test]
    fn what_the_api_does_not_allow_is_named_by_its_path() {
        for (pod, path) in [
            (json!(null), "/spec"),
            (json!({"spec": []}), "/spec"),
            (json!({"spec": {"volumes": "x"}}), "/spec/volumes"),
            (json!({"spec": {"containers": [1]}}), "/spec/containers"),
            (
                json!({"spec": {"containers": [{}, {"env": {"A": "b"}}]}}),
                "/spec/containers/1/env",
            ),
            (
                json!({"spec": {"initContainers": [{"volumeMounts": 7}]}}),
                "/spec/initContainers/0/volumeMounts",
            ),
        ] {
            assert_eq!(Pod::read(&pod).unwrap_err(), Malformed(path.to_owned()));
        }
    }

    #[test]
    fn only_annotations_of_a_mirror_pod_tell_it() {
        let pod = json!({
            "metadata": {"annotations": {"kubernetes.io/config.mirror": "0f"}},
            "spec": {},
        });
        assert!(Metadata::of(&pod).is_mirror());
        assert!(!Metadata::of(&json!({"spec": {}})).is_mirror());
    }
}
