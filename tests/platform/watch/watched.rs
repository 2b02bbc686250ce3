//! A node whose Pods the API server shows to one agent.

use std::process::Command;

use serde_json::{Value, json};
use tests::agent::Agent;
use tests::binaries;
use tests::chart::{LEAST, template};
use tests::control_plane::{ControlPlane, Helm};
use tests::node::{AUDIENCE, IN_CLUSTER, NODE_NAME};
use tests::pod::Pod;
use tests::wait;

use super::super::agent::Fixture;
use super::SOON;

/// A node that no other test has Pods on.
pub(super) struct Watched<'a> {
    pub(super) fixture: Fixture<'a>,
    name: String,
}

impl<'a> Watched<'a> {
    pub(super) fn new(cluster: &'a ControlPlane) -> Self {
        let fixture = Fixture::new(cluster);
        allow(&fixture);
        let name = cluster.unique("node");
        Self { fixture, name }
    }

    /// An agent that never looks at interfaces by itself, with further flags.
    pub(super) fn agent(&self, further: &[&str]) -> Agent {
        let node = &self.fixture.node;
        let mut arguments = node.cluster_arguments(&self.fixture.own);
        for argument in &mut arguments {
            if argument == NODE_NAME {
                argument.clone_from(&self.name);
            }
        }
        arguments.push("--poll-interval=10m".to_owned());
        arguments.extend(further.iter().map(|&flag| flag.to_owned()));
        let agent = node.spawn_agent_with(&arguments, &IN_CLUSTER).unwrap();
        agent.ready().unwrap()
    }

    /// A Pod that is injected where it has the init container's name, as the API server sees it; its
    /// uid.
    pub(super) fn create(&self, name: &str, service_account: &str, init: &[&str]) -> String {
        let containers = init.iter();
        let init: Vec<_> = containers
            .map(|name| json!({ "name": name, "image": "app.invalid/app" }))
            .collect();
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": self.name } });
        self.fixture
            .cluster
            .apply(&node)
            .unwrap()
            .accepted()
            .unwrap();
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "namespace": self.fixture.namespace, "name": name },
            "spec": {
                "nodeName": self.name,
                "serviceAccountName": service_account,
                "initContainers": init,
                "containers": [{ "name": "main", "image": "app.invalid/app" }],
            },
        });
        let created = self.fixture.cluster.create(&pod).unwrap();
        created
            .accepted()
            .unwrap()
            .string("/metadata/uid")
            .to_owned()
    }

    /// An injected Pod that can enrol.
    pub(super) fn pod(&self, name: &str) -> Pod {
        self.create(name, "reader", &["caios-enroll"]);
        self.placed(name)
    }

    /// The sandbox of a Pod that is there, with its token.
    pub(super) fn placed(&self, name: &str) -> Pod {
        let fixture = &self.fixture;
        let token = fixture
            .cluster
            .token(&fixture.namespace, "reader", Some(name), &[AUDIENCE])
            .unwrap();
        fixture.placed(name, &token)
    }

    /// Says what a kubelet would.
    pub(super) fn becomes(&self, name: &str, phase: &str, address: &str) {
        let status = json!({ "status": {
            "phase": phase, "podIP": address, "podIPs": [{ "ip": address }],
        } });
        let path = format!("{}/status", self.path(name));
        let cluster = self.fixture.cluster;
        cluster.merge(&path, &status).unwrap().accepted().unwrap();
    }

    /// Deletes a Pod at once.
    pub(super) fn delete(&self, name: &str) {
        let cluster = self.fixture.cluster;
        cluster
            .delete(&self.path(name))
            .unwrap()
            .accepted()
            .unwrap();
    }

    fn path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{name}", self.fixture.namespace)
    }

    /// What the agent has said on Pods: reason, uid and note.
    pub(super) fn events(&self) -> Vec<(String, String, String)> {
        let namespace = &self.fixture.namespace;
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let list = self.fixture.cluster.get(&path).unwrap().accepted().unwrap();
        let items = list.body["items"].as_array().unwrap();
        items.iter().map(event).collect()
    }

    /// The Pods that are not served, as `caios-agent status` shows them.
    pub(super) fn unserved(&self) -> Vec<Value> {
        let mut status = Command::new(binaries::agent());
        status.args(["status", "--json"]).env_clear();
        let private = self.fixture.node.private_directory();
        status.env("CAIOS_AGENT_PRIVATE_DIRECTORY", private);
        let printed = status.output().unwrap().stdout;
        let document: Value = serde_json::from_slice(&printed).unwrap();
        let unserved = document["unserved_pods"].as_array();
        unserved.expect("Pods are watched").clone()
    }

    /// The one thing that was said.
    pub(super) fn event(&self) -> (String, String, String) {
        wait::until("an Event is there", SOON, || !self.events().is_empty()).unwrap();
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }
}

fn event(event: &Value) -> (String, String, String) {
    assert_eq!(event["type"], "Warning");
    let text = |pointer| event.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    (text("/reason"), text("/regarding/uid"), text("/note"))
}

/// Gives the agent what the chart gives it.
fn allow(fixture: &Fixture<'_>) {
    let chart = template(Helm::V4, &["--set", LEAST]).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&chart).unwrap();
    let role = objects
        .iter()
        .find(|it| it["kind"] == "ClusterRole" && it["metadata"]["name"] == "caios-agent");
    let name = fixture.cluster.unique("caios-agent");
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": name },
        "rules": role.unwrap()["rules"],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{
            "kind": "ServiceAccount", "name": "caios-agent", "namespace": fixture.release,
        }],
    });
    for object in [role, binding] {
        fixture.cluster.apply(&object).unwrap().accepted().unwrap();
    }
}
