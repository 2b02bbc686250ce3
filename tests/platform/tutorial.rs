//! The README's tutorial, its commands run as written. No kubelet runs here, so the test starts the
//! injector as the chart's Deployment says, and takes a node's part behind it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::chart::{NAMESPACE, commands};
use tests::control_plane::{ControlPlane, Helm, ISSUER};
use tests::injector::{Release, injected};
use tests::node::{IN_CLUSTER, NODE_NAME, Node};
use tests::pod::Identity;
use tests::{tools, wait};

const README: &str = include_str!("../../README.md");

/// A shell in which the tutorial is typed: `helm` and `kubectl` on its PATH, the cluster's admin.
struct Shell<'a> {
    cluster: &'a ControlPlane,
    programs: PathBuf,
}

impl<'a> Shell<'a> {
    fn new(cluster: &'a ControlPlane, helm: Helm) -> Self {
        let programs = cluster.directory().join("programs");
        std::fs::create_dir(&programs).unwrap();
        let link = |from: &str, to| {
            let program = tools::program("helm", from).unwrap();
            symlink(program.canonicalize().unwrap(), programs.join(to)).unwrap();
        };
        link(helm.program(), "helm");
        link("kubectl", "kubectl");
        Self { cluster, programs }
    }

    /// Types the commands of a step; what they print.
    fn step(&self, heading: &str) -> String {
        let mut shell = Command::new("bash");
        let path = std::env::var("PATH").unwrap();
        shell
            .args(["-euo", "pipefail", "-c", &commands(README, heading)])
            .env_clear()
            .env("PATH", format!("{}:{path}", self.programs.display()))
            .env("HOME", self.cluster.directory())
            .env("KUBECONFIG", self.cluster.admin_kubeconfig().unwrap())
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
        self.cluster.printed(shell).unwrap()
    }
}

/// Plays the kubelet of the tutorial's Pod: its token, its init container, an SDK's request.
fn run_on_a_node(cluster: &ControlPlane, pod: &Value) {
    let node = Node::of(cluster).unwrap();
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let projected = volumes
        .iter()
        .find(|volume| volume["name"] == "caios-token")
        .unwrap();
    let source = &projected["projected"]["sources"][0]["serviceAccountToken"];
    let audience = source["audience"].as_str().unwrap();
    cluster
        .pod("training", "trainer", "on-a-node", NODE_NAME)
        .unwrap();
    let token = cluster
        .token("training", "trainer", Some("on-a-node"), &[audience])
        .unwrap();
    // Step 2 at CoreWeave: the issuer is registered as its own audience.
    let keys = cluster.get("/openid/v1/jwks").unwrap().body.to_string();
    node.standin().federate(ISSUER, ISSUER, &keys).unwrap();
    let own = cluster
        .service_account_directory(NAMESPACE, "caios-agent")
        .unwrap();
    let mut arguments = node.cluster_arguments(&own);
    arguments.push(format!("--audience={audience}"));
    let _agent = node
        .spawn_agent_with(&arguments, &IN_CLUSTER)
        .unwrap()
        .ready()
        .unwrap();
    let identity = Identity {
        namespace: "training".to_owned(),
        service_account: "trainer".to_owned(),
        name: "on-a-node".to_owned(),
        uid: String::new(),
    };
    let placed = node.cluster_pod(identity, &token).unwrap();
    let enrolled = placed.enroll("30s").unwrap();
    assert!(enrolled.status.success(), "{enrolled:?}");
    let answer = placed.credentials().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn play(helm: Helm) {
    let cluster = ControlPlane::new().unwrap();
    let shell = Shell::new(&cluster, helm);
    let notes = shell.step("1. Install the chart");
    assert!(notes.contains("STATUS: deployed"), "{notes}");
    let discovery = shell.step("2. Register the cluster");
    let discovery: Value = serde_json::from_str(&discovery).unwrap();
    let issuer = discovery["issuer"].as_str().unwrap();
    shell.step("3. Annotate a ServiceAccount");

    let injector = Release::installed(&cluster, NAMESPACE).unwrap();
    // The API server takes a moment to learn of a new `caBundle`.
    let test = commands(README, "5. Run and verify");
    assert!(test.contains("kind: Pod"));
    wait::until("the webhook is called", Duration::from_mins(1), || {
        let probe = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "probe", "namespace": "training" },
            "spec": {
                "serviceAccountName": "trainer",
                "containers": [{ "name": "main", "image": "app" }],
            },
        });
        cluster
            .create_dry(&probe)
            .is_ok_and(|answer| injected(&answer.body))
    })
    .unwrap();
    let printed = shell.step("5. Run and verify");
    let promised = "caios-enroll http://127.0.0.1:27169/v1/credentials";
    assert!(README.contains(&format!("prints `{promised}`")));
    assert_eq!(
        printed.lines().last(),
        Some(promised),
        "{printed}\n{}",
        injector.log()
    );

    let pod = cluster
        .get("/api/v1/namespaces/training/pods/caios-test")
        .unwrap()
        .accepted()
        .unwrap()
        .body;
    let environment = pod["spec"]["containers"][0]["env"].to_string();
    assert!(environment.contains("US-EAST-04A"), "{environment}");
    run_on_a_node(&cluster, &pod);

    // What the notes say is to be granted is what CoreWeave will see.
    assert!(
        notes.contains("role/<issuer>:system:serviceaccount:"),
        "{notes}"
    );
    assert!(!issuer.ends_with('/'));
}

#[test]
fn the_tutorial_does_what_it_says_with_helm_3() {
    play(Helm::V3);
}

#[test]
fn the_tutorial_does_what_it_says_with_helm_4() {
    play(Helm::V4);
}
