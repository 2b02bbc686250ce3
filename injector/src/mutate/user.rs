//! The user that the added container runs as.

use serde_json::Value;
use shared::contract::{ENROLL_CONTAINER, IMAGE_USER, RELAY_CONTAINER};

use super::pod::Pod;

/// The user for the added container: the one that all containers of the Pod share, or our image's.
///
/// The kubelet gives a token file to the user that all containers share, mode 0600; when one
/// differs, or says none, everybody may read the file (`FsUserFrom` in its `pkg/volume/util`). Thus
/// with the shared user our container can read the file, and the rule's outcome is for the others
/// what it was without us; with no shared user, none of ours makes one.
pub(super) fn user(pod: &Pod<'_>) -> i64 {
    let of_pod = pod.at("/securityContext/runAsUser").and_then(Value::as_i64);
    let mut users = pod
        .containers
        .iter()
        .filter(|container| ![ENROLL_CONTAINER, RELAY_CONTAINER].contains(&container.name))
        .map(|container| {
            let own = container.value.pointer("/securityContext/runAsUser");
            own.and_then(Value::as_i64).or(of_pod)
        });
    match users.next() {
        Some(Some(first)) if users.all(|user| user == Some(first)) => first,
        _ => IMAGE_USER,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_user_is_the_one_that_all_containers_share() {
        let runs_as = |user: i64| json!({"securityContext": {"runAsUser": user}});
        for (spec, expected) in [
            (json!({"containers": [{}]}), IMAGE_USER),
            (json!({"containers": [runs_as(1000)]}), 1000),
            (json!({"containers": [runs_as(0)]}), 0),
            (json!({"containers": [runs_as(1000), {}]}), IMAGE_USER),
            (
                json!({"containers": [runs_as(1000), runs_as(2000)]}),
                IMAGE_USER,
            ),
            (
                json!({"containers": [runs_as(1000)], "initContainers": [runs_as(0)]}),
                IMAGE_USER,
            ),
            (
                json!({"securityContext": {"runAsUser": 7}, "containers": [{}, runs_as(7)]}),
                7,
            ),
            (
                json!({"securityContext": {"runAsUser": 7}, "containers": [{}, runs_as(8)]}),
                IMAGE_USER,
            ),
            (json!({"containers": []}), IMAGE_USER),
        ] {
            let pod = json!({"spec": spec});
            assert_eq!(user(&Pod::read(&pod).unwrap()), expected, "{pod}");
        }
    }
}
