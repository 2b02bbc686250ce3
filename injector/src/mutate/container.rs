//! One container of the raw Pod: what it sets and mounts already.

use serde_json::Value;

use super::list::{List, Malformed, list};

/// One container, and where it is.
#[derive(Debug)]
pub(super) struct Container<'a> {
    /// The JSON pointer of the container.
    pub(super) path: String,
    pub(super) name: &'a str,
    pub(super) value: &'a Value,
    pub(super) env: List<'a>,
    pub(super) mounts: List<'a>,
}

/// What a variable is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting<'a> {
    /// To this text. The number is the variable's place in the list.
    Text(usize, &'a str),
    /// To what is found elsewhere when the container starts.
    Elsewhere,
}

impl Setting<'_> {
    /// Whether it is set to something: SDKs take an empty variable for none.
    pub(super) fn says_something(self) -> bool {
        !matches!(self, Setting::Text(_, ""))
    }
}

impl<'a> Container<'a> {
    pub(super) fn read(value: &'a Value, path: String) -> Result<Self, Malformed> {
        Ok(Self {
            env: list(value, "env", &path)?,
            mounts: list(value, "volumeMounts", &path)?,
            name: value.get("name").and_then(Value::as_str).unwrap_or(""),
            value,
            path,
        })
    }

    /// Whether the container begins in the list of init containers.
    pub(super) fn is_init(&self) -> bool {
        self.path.starts_with("/spec/initContainers/")
    }

    /// What a variable is set to. Of several with one name the last counts.
    pub(super) fn variable(&self, name: &str) -> Option<Setting<'a>> {
        self.variables()
            .filter(|(given, _)| *given == name)
            .last()
            .map(|(_, setting)| setting)
    }

    /// Whether one of these variables is set to something.
    pub(super) fn sets(&self, names: &[&str]) -> bool {
        names
            .iter()
            .any(|name| self.variable(name).is_some_and(Setting::says_something))
    }

    /// All variables, in their order.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'a str, Setting<'a>)> {
        let entries = self.env.unwrap_or_default().iter().enumerate();
        entries.filter_map(|(place, entry)| {
            let name = entry.get("name")?.as_str()?;
            let elsewhere = entry.get("valueFrom").is_some_and(|from| !from.is_null());
            let setting = match entry.get("value") {
                _ if elsewhere => Setting::Elsewhere,
                Some(Value::String(text)) => Setting::Text(place, text),
                _ => Setting::Text(place, ""),
            };
            Some((name, setting))
        })
    }

    /// Whether it mounts `volume`, whole, at `directory`.
    pub(super) fn mounts_at(&self, volume: &str, directory: &str) -> bool {
        self.mounts.unwrap_or_default().iter().any(|mount| {
            mount.get("name").and_then(Value::as_str) == Some(volume)
                && mount_path(mount) == directory
                && !["subPath", "subPathExpr"].iter().any(|key| {
                    mount
                        .get(key)
                        .is_some_and(|path| path.as_str() != Some("") && !path.is_null())
                })
        })
    }

    /// Whether something is mounted at `directory` or below.
    pub(super) fn occupies(&self, directory: &str) -> bool {
        self.mounts.unwrap_or_default().iter().any(|mount| {
            mount_path(mount)
                .strip_prefix(directory)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Whether it says that it listens on a TCP port itself.
    pub(super) fn declares_port(&self, port: u16) -> bool {
        let ports = self.value.get("ports").and_then(Value::as_array);
        ports.into_iter().flatten().any(|entry| {
            let protocol = entry.get("protocol").and_then(Value::as_str);
            entry.get("containerPort").and_then(Value::as_u64) == Some(port.into())
                && protocol.unwrap_or("TCP") == "TCP"
        })
    }
}

fn mount_path(mount: &Value) -> &str {
    let path = mount.get("mountPath").and_then(Value::as_str);
    path.unwrap_or("").trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(value: &Value) -> Container<'_> {
        Container::read(value, "/spec/containers/0".to_owned()).unwrap()
    }

    #[test]
    fn the_last_of_several_variables_counts() {
        let value = json!({"env": [
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "A", "value": "2", "valueFrom": null},
            {"name": "C"},
        ]});
        let container = container(&value);
        assert_eq!(container.variable("A"), Some(Setting::Text(2, "2")));
        assert_eq!(container.variable("B"), Some(Setting::Elsewhere));
        assert_eq!(container.variable("C"), Some(Setting::Text(3, "")));
        assert_eq!(container.variable("D"), None);
        assert!(container.sets(&["C", "B"]) && !container.sets(&["C", "D"]));
    }

    #[test]
    fn mounts_are_told_apart_by_volume_path_and_part() {
        let value = json!({"volumeMounts": [
            {"name": "whole", "mountPath": "/run/a/"},
            {"name": "part", "mountPath": "/run/b", "subPath": "x"},
            {"name": "file", "mountPath": "/run/c/token"},
            {"name": "near", "mountPath": "/run/dd"},
        ]});
        let container = container(&value);
        assert!(container.mounts_at("whole", "/run/a"));
        assert!(!container.mounts_at("other", "/run/a"));
        assert!(!container.mounts_at("part", "/run/b"));
        for (directory, occupied) in [("/run/a", true), ("/run/c", true), ("/run/d", false)] {
            assert_eq!(container.occupies(directory), occupied, "{directory}");
        }
    }

    #[test]
    fn only_a_tcp_port_is_in_the_way() {
        let value = json!({"ports": [
            {"containerPort": 1000},
            {"containerPort": 2000, "protocol": "UDP"},
            {"containerPort": 3000, "protocol": "TCP"},
        ]});
        let container = container(&value);
        assert!(container.declares_port(1000) && container.declares_port(3000));
        assert!(!container.declares_port(2000));
    }
}
