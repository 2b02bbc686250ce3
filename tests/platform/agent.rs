//! The agent in a cluster: its own ServiceAccount without any binding, Pods' tokens by the real
//! `TokenRequest`, keys from the real API server.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tests::agent::Agent;
use tests::control_plane::{Answer, ControlPlane, ISSUER};
use tests::node::{AUDIENCE, IN_CLUSTER, NODE_NAME, Node};
use tests::pod::{Identity, Pod};
use tests::wait;

/// A node of a cluster, with the agent's ServiceAccount and a namespace for Pods.
pub(super) struct Fixture<'a> {
    pub(super) cluster: &'a ControlPlane,
    pub(super) node: Node,
    /// Where the agent itself runs.
    pub(super) release: String,
    /// Its ServiceAccount, as the kubelet mounts it.
    pub(super) own: PathBuf,
    /// Where the Pods run.
    pub(super) namespace: String,
}

impl<'a> Fixture<'a> {
    pub(super) fn new(cluster: &'a ControlPlane) -> Self {
        let release = cluster.namespace("caios", &[]).unwrap();
        cluster
            .service_account(&release, "caios-agent", &[])
            .unwrap();
        let namespace = cluster.namespace("research", &[]).unwrap();
        cluster.service_account(&namespace, "reader", &[]).unwrap();
        Self {
            cluster,
            node: Node::of(cluster).unwrap(),
            own: cluster
                .service_account_directory(&release, "caios-agent")
                .unwrap(),
            release,
            namespace,
        }
    }

    /// The agent with the flags that a chart gives it. Issuer and keys come from the API server.
    fn spawn(&self) -> Agent {
        let arguments = self.node.cluster_arguments(&self.own);
        self.node.spawn_agent_with(&arguments, &IN_CLUSTER).unwrap()
    }

    /// A Pod, with the token that the kubelet would have mounted.
    fn pod(&self, name: &str) -> Pod {
        let token = self.token(name, NODE_NAME, AUDIENCE);
        self.placed(name, &token)
    }

    /// Makes a Pod on a node in the API, and a token that is bound to it.
    fn token(&self, name: &str, node: &str, audience: &str) -> String {
        let namespace = &self.namespace;
        self.cluster.pod(namespace, "reader", name, node).unwrap();
        self.cluster
            .token(namespace, "reader", Some(name), &[audience])
            .unwrap()
    }

    /// The Pod on this node, whatever its token says.
    pub(super) fn placed(&self, name: &str, token: &str) -> Pod {
        let identity = Identity {
            namespace: self.namespace.clone(),
            service_account: "reader".to_owned(),
            name: name.to_owned(),
            uid: String::new(),
        };
        self.node.cluster_pod(identity, token).unwrap()
    }

    /// What CoreWeave calls one of its ServiceAccounts.
    pub(super) fn principal(&self, service_account: &str) -> String {
        let namespace = &self.namespace;
        format!("role/{ISSUER}:system:serviceaccount:{namespace}:{service_account}")
    }

    /// What the API server answers to the agent's own token.
    fn sent(&self, method: hyper::Method, path: &str, body: String) -> Answer {
        let token = fs::read_to_string(self.own.join("token")).unwrap();
        let client = self.cluster.client_with(&token).unwrap();
        self.cluster
            .send_as(client, method, path, "application/json", body.into_bytes())
            .unwrap()
    }
}

pub(super) fn enrol(pod: &Pod) {
    let output = pod.enroll("30s").unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What `caios-enroll` says about a token that is refused.
fn refusal(pod: &Pod) -> String {
    let output = pod.enroll("5s").unwrap();
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn bound_tokens_of_the_api_server_are_verified_and_get_credentials() {
    let fixture = Fixture::new(ControlPlane::shared());
    let agent = fixture.spawn().ready().unwrap();
    let pods = [fixture.pod("one"), fixture.pod("two")];
    for pod in &pods {
        enrol(pod);
        let answer = pod.credentials().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(
            answer.json()["AccessKeyId"]
                .as_str()
                .unwrap()
                .starts_with("CW")
        );
    }
    assert_eq!(fixture.node.standin().calls().exchanges(), 1);
    assert_eq!(
        agent.count(r#"caios_agent_listeners{delivery="handoff"}"#),
        2
    );
    assert!(agent.count(r#"caios_agent_jwks_refreshes_total{outcome="success"}"#) >= 1);
    assert!(
        agent.log().contains(ISSUER),
        "the issuer is the API server's:\n{}",
        agent.log()
    );
}

#[test]
fn tokens_for_somebody_else_are_refused_with_the_reason() {
    let fixture = Fixture::new(ControlPlane::shared());
    let _agent = fixture.spawn().ready().unwrap();
    let elsewhere = fixture.token("elsewhere", "another-node", AUDIENCE);
    let said = refusal(&fixture.placed("elsewhere", &elsewhere));
    assert!(said.contains("bound to node \"another-node\""), "{said}");

    let foreign = fixture.token("foreign", NODE_NAME, "https://somebody.else");
    let said = refusal(&fixture.placed("foreign", &foreign));
    assert!(
        said.contains("the token's audience is \"https://somebody.else\""),
        "{said}"
    );

    let api = fixture
        .cluster
        .token(&fixture.namespace, "reader", Some("foreign"), &[])
        .unwrap();
    let said = refusal(&fixture.placed("api", &api));
    assert!(
        said.contains(&format!("the token's audience is {ISSUER:?}")),
        "{said}"
    );

    let unbound = fixture
        .cluster
        .token(&fixture.namespace, "reader", None, &[AUDIENCE])
        .unwrap();
    let said = refusal(&fixture.placed("unbound", &unbound));
    assert!(said.contains("Pod"), "{said}");
    assert_eq!(fixture.node.standin().calls().exchanges(), 0);
}

#[test]
fn a_deleted_pods_token_opens_no_other_pods_listener() {
    let fixture = Fixture::new(ControlPlane::shared());
    let _agent = fixture.spawn().ready().unwrap();
    let (deleted, other) = (fixture.pod("deleted"), fixture.pod("other"));
    enrol(&deleted);
    enrol(&other);
    let path = format!("/api/v1/namespaces/{}/pods/deleted", fixture.namespace);
    fixture.cluster.delete(&path).unwrap().accepted().unwrap();
    let token = deleted.token().unwrap();
    let answer = other.ask(Some(&token)).unwrap();
    assert_eq!(answer.status, 403, "{}", answer.body);
    // Verified without the API server: as long as the Pod's network lives, its token is good.
    assert_eq!(deleted.credentials().unwrap().status, 200);
}

#[test]
fn the_agents_own_account_may_read_the_issuers_documents_and_nothing_else() {
    let fixture = Fixture::new(ControlPlane::shared());
    for path in ["/.well-known/openid-configuration", "/openid/v1/jwks"] {
        assert_eq!(
            fixture.sent(hyper::Method::GET, path, String::new()).code,
            200,
            "{path}"
        );
    }
    let namespace = &fixture.namespace;
    for (method, path) in [
        ("GET", "/api/v1/pods".to_owned()),
        ("GET", "/api/v1/pods?watch=true".to_owned()),
        ("GET", "/api/v1/nodes".to_owned()),
        ("GET", "/api/v1/secrets".to_owned()),
        ("GET", "/api/v1/serviceaccounts".to_owned()),
        (
            "GET",
            format!("/api/v1/namespaces/{}/secrets", fixture.release),
        ),
        (
            "POST",
            format!("/api/v1/namespaces/{namespace}/serviceaccounts/reader/token"),
        ),
        ("POST", format!("/api/v1/namespaces/{namespace}/events")),
        ("POST", format!("/api/v1/namespaces/{namespace}/pods")),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews".to_owned(),
        ),
        ("GET", "/metrics".to_owned()),
    ] {
        let method = method.parse().unwrap();
        assert_eq!(
            fixture.sent(method, &path, String::new()).code,
            403,
            "{path}"
        );
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": { "namespace": fixture.release },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let rules = fixture.sent(hyper::Method::POST, path, review.to_string());
    let resources = rules.body["status"]["resourceRules"].as_array().unwrap();
    assert!(!resources.is_empty());
    for rule in resources {
        let group = rule["apiGroups"][0].as_str().unwrap();
        let about_itself = ["authorization.k8s.io", "authentication.k8s.io"].contains(&group);
        assert!(about_itself && rule["verbs"] == json!(["create"]), "{rule}");
        let named = rule["resources"].as_array().unwrap();
        assert!(
            named
                .iter()
                .all(|name| name.as_str().unwrap().starts_with("selfsubject")),
            "{rule}"
        );
    }
}

#[test]
fn an_absent_api_server_stops_neither_serving_nor_enrolling() {
    let cluster = ControlPlane::new().unwrap();
    let fixture = Fixture::new(&cluster);
    let mut agent = fixture.spawn().ready().unwrap();
    let (early, late) = (fixture.pod("early"), fixture.pod("late"));
    enrol(&early);

    cluster.stop_api_server();
    assert_eq!(early.credentials().unwrap().status, 200);
    enrol(&late);
    assert_eq!(late.credentials().unwrap().status, 200);
    assert_eq!(agent.admin("/readyz").unwrap().status, 200);

    // A new agent has no keys to verify with, until the API server is back.
    assert!(agent.terminate().unwrap().success());
    let agent = fixture.spawn();
    let failures = r#"caios_agent_jwks_refreshes_total{outcome="failure"}"#;
    wait::until("it has asked for the keys", Duration::from_secs(20), || {
        agent.metric(failures).is_ok_and(|count| count >= 1.0)
    })
    .unwrap();
    let unready = agent.admin("/readyz").unwrap();
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("issuer keys"), "{}", unready.body);
    cluster.start_api_server().unwrap();
    let agent = agent.ready().unwrap();
    let next = fixture.pod("next");
    enrol(&next);
    assert_eq!(next.credentials().unwrap().status, 200);
    assert!(agent.metric(failures).unwrap() >= 1.0);
}
