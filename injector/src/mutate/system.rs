//! Whether a Pod can only run on Windows.

use serde_json::Value;

use super::pod::Pod;

/// The label of nodes with their operating system, and its older name.
const LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

/// Whether the Pod says that it is for Windows: by `os.name`, by its node selector, or by a node
/// affinity of which every alternative asks for Windows.
pub(super) fn is_windows(pod: &Pod<'_>) -> bool {
    if let Some(name) = pod.text("/os/name") {
        return name == "windows";
    }
    let selector = pod.at("/nodeSelector");
    let selected = LABELS.iter().any(|label| {
        selector
            .and_then(|labels| labels.get(label))
            .and_then(Value::as_str)
            == Some("windows")
    });
    selected || affine(pod)
}

fn affine(pod: &Pod<'_>) -> bool {
    let terms = pod
        .at("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution")
        .and_then(|required| required.get("nodeSelectorTerms"))
        .and_then(Value::as_array);
    terms.is_some_and(|terms| !terms.is_empty() && terms.iter().all(asks_for_windows))
}

fn asks_for_windows(term: &Value) -> bool {
    let expressions = term.get("matchExpressions").and_then(Value::as_array);
    expressions.into_iter().flatten().any(|expression| {
        let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or("");
        let values = expression.get("values").and_then(Value::as_array);
        LABELS.contains(&text("key"))
            && text("operator") == "In"
            && values.is_some_and(|values| {
                !values.is_empty() && values.iter().all(|value| value == "windows")
            })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn affinity(values: &[&str], operator: &str) -> Value {
        json!({"matchExpressions": [
            {"key": "zone", "operator": "Exists"},
            {"key": "kubernetes.io/os", "operator": operator, "values": values},
        ]})
    }

    #[test]
    fn windows_is_told_by_name_selector_or_affinity() {
        let required = |terms: Value| {
            json!({"affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
            }}})
        };
        for (spec, expected) in [
            (json!({}), false),
            (json!({"os": {"name": "windows"}}), true),
            (json!({"os": {"name": "linux"}}), false),
            (
                json!({"nodeSelector": {"kubernetes.io/os": "windows"}}),
                true,
            ),
            (
                json!({"nodeSelector": {"beta.kubernetes.io/os": "windows"}}),
                true,
            ),
            (
                json!({"nodeSelector": {"kubernetes.io/os": "linux"}}),
                false,
            ),
            (required(json!([])), false),
            (required(json!([affinity(&["windows"], "In")])), true),
            (required(json!([affinity(&["windows"], "NotIn")])), false),
            (
                required(json!([affinity(&["windows", "linux"], "In")])),
                false,
            ),
            (
                required(json!([
                    affinity(&["windows"], "In"),
                    affinity(&["linux"], "In")
                ])),
                false,
            ),
        ] {
            let pod = json!({"spec": spec});
            assert_eq!(is_windows(&Pod::read(&pod).unwrap()), expected, "{pod}");
        }
    }
}
