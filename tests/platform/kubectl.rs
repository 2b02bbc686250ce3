//! What a person sees who creates Pods with `kubectl apply`.

use serde_json::{Value, json};
use tests::injector::injected;

use crate::warned::{SERVICE_ACCOUNT, WARNING, Warned};

impl Warned {
    /// Runs `kubectl apply` on a file with this object: what it prints as its result, and what it
    /// complains of.
    fn apply(&self, object: &Value, further: &[&str]) -> (String, String) {
        let mut kubectl = self.cluster.kubectl().unwrap();
        kubectl.args(["apply", "--namespace", &self.namespace, "--filename", "-"]);
        kubectl.args(further);
        let output = self.cluster.output_with(kubectl, &object.to_string());
        let output = output.unwrap();
        let [printed, complaint] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{printed}{complaint}");
        (printed, complaint)
    }
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "app" }, "spec": spec(),
    })
}

fn spec() -> Value {
    json!({
        "serviceAccountName": SERVICE_ACCOUNT,
        "containers": [{ "name": "main", "image": "app.invalid/app" }],
    })
}

/// What a run prints without a warning.
fn quiet(printed: &str) -> (String, String) {
    (printed.to_owned(), String::new())
}

/// What it prints with the warning.
fn warning(printed: &str) -> (String, String) {
    (printed.to_owned(), format!("Warning: {WARNING}\n"))
}

#[test]
fn the_warnings_stand_in_the_terminal_and_the_same_file_again_changes_nothing() {
    let warned = Warned::new("applied");
    let created = warned.apply(&pod(), &[]);
    assert_eq!(created, warning("pod/app created\n"));
    let kept = warned.pod("app");
    assert!(injected(&kept));

    let reviews = warned.reviews();
    let again = warned.apply(&pod(), &[]);
    assert_eq!(again, quiet("pod/app unchanged\n"));
    assert_eq!(warned.pod("app"), kept);

    // What is changed later is the Pod's own; nobody reviews it again.
    let mut labelled = pod();
    labelled["metadata"]["labels"] = json!({ "team": "storage" });
    let changed = warned.apply(&labelled, &[]);
    assert_eq!(changed, quiet("pod/app configured\n"));
    assert_eq!(warned.pod("app")["spec"], kept["spec"]);
    assert_eq!(warned.reviews(), reviews);
}

#[test]
fn a_server_side_apply_leaves_what_we_added_to_us() {
    let warned = Warned::new("applied");
    let first = warned.apply(&pod(), &["--server-side"]);
    assert_eq!(first, warning("pod/app serverside-applied\n"));
    let kept = warned.pod("app");
    assert!(injected(&kept));
    let again = warned.apply(&pod(), &["--server-side"]);
    assert_eq!(again, quiet("pod/app serverside-applied\n"));
    assert_eq!(warned.pod("app"), kept);
}

#[test]
fn a_dry_run_of_the_server_shows_the_warnings_and_the_injected_pod_and_keeps_nothing() {
    let warned = Warned::new("applied");
    let dry = warned.apply(&pod(), &["--dry-run=server"]);
    assert_eq!(dry, warning("pod/app created (server dry run)\n"));
    let (shown, complaint) = warned.apply(&pod(), &["--dry-run=server", "--output=json"]);
    assert_eq!(complaint, format!("Warning: {WARNING}\n"));
    assert!(injected(&serde_json::from_str(&shown).unwrap()), "{shown}");
    assert!(warned.pod("app").is_null());
}

#[test]
fn the_template_of_a_deployment_is_not_reviewed_and_stays_as_it_was_written() {
    let warned = Warned::new("applied");
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": spec() },
        },
    });
    let reviews = warned.reviews();
    let created = warned.apply(&deployment, &[]);
    assert_eq!(created, quiet("deployment.apps/web created\n"));
    let again = warned.apply(&deployment, &[]);
    assert_eq!(again, quiet("deployment.apps/web unchanged\n"));
    assert_eq!(warned.reviews(), reviews);
    let namespace = &warned.namespace;
    let kept = format!("/apis/apps/v1/namespaces/{namespace}/deployments/web");
    let kept = warned.cluster.get(&kept).unwrap().body;
    assert!(!kept.to_string().contains("caios-"), "{kept:#}");
}
