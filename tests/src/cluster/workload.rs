//! Pods that a test starts.

use std::time::Duration;

use anyhow::Context as _;
use hyper::Method;
use serde_json::{Value, json};

use super::Cluster;
use super::spec::{container, pod_spec};
use crate::wait;

/// How long a Pod may take to get anywhere, on a machine that is busy with others: after an API
/// server that was away for minutes the kubelet comes back to it a minute and a half late, and the
/// webhook is called after that.
pub const PHASE_DEADLINE: Duration = Duration::from_mins(3);

/// A Pod on the node.
#[derive(Clone)]
pub struct Workload<'a> {
    cluster: &'a Cluster,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Cluster {
    /// Makes a namespace with the ServiceAccount `trainer`, whose Pods get credentials, for which
    /// everything is granted. Its name begins with `prefix`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn workload_namespace(&self, prefix: &str) -> anyhow::Result<String> {
        let control_plane = self.control_plane();
        let namespace = control_plane.namespace(prefix, &[])?;
        self.service_account(&namespace, "trainer")?;
        Ok(namespace)
    }

    /// Makes a ServiceAccount whose Pods get credentials, for which everything is granted.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn service_account(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let inject = [("caios.coreweave.com/inject", "true")];
        self.control_plane()
            .service_account(namespace, name, &inject)?;
        self.coreweave().grant(namespace, name);
        Ok(())
    }

    /// Creates a Pod of `trainer` with these containers and other members of its spec.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn create_pod(
        &self,
        namespace: &str,
        name: &str,
        containers: &[Value],
        further: &Value,
    ) -> anyhow::Result<Workload<'_>> {
        self.annotated_pod(namespace, name, &json!({}), containers, further)
    }

    /// As [`create_pod`](Self::create_pod), with these annotations.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn annotated_pod(
        &self,
        namespace: &str,
        name: &str,
        annotations: &Value,
        containers: &[Value],
        further: &Value,
    ) -> anyhow::Result<Workload<'_>> {
        let mut spec = pod_spec(containers);
        if let (Some(spec), Some(further)) = (spec.as_object_mut(), further.as_object()) {
            spec.extend(further.clone());
        }
        let created = self.control_plane().create(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "namespace": namespace, "name": name, "annotations": annotations },
            "spec": spec,
        }))?;
        let created = created.accepted()?;
        Ok(Workload {
            cluster: self,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: created.string("/metadata/uid").to_owned(),
        })
    }

    /// Creates a Pod of `trainer` that does nothing until it is told to, and waits until it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn idle_pod(&self, namespace: &str, name: &str) -> anyhow::Result<Workload<'_>> {
        let idle = container("main", &["sleep", "86400"]);
        let pod = self.create_pod(namespace, name, &[idle], &json!({}))?;
        pod.until_running()?;
        Ok(pod)
    }

    /// A Pod that somebody else has created.
    ///
    /// # Errors
    /// When there is none.
    pub fn existing_pod(&self, namespace: &str, name: &str) -> anyhow::Result<Workload<'_>> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let pod = self.control_plane().get(&path)?.accepted()?;
        Ok(Workload {
            cluster: self,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: pod.string("/metadata/uid").to_owned(),
        })
    }

    /// The Pods of a namespace with this label, that are not being deleted.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn pods(&self, namespace: &str, label: &str) -> anyhow::Result<Vec<Workload<'_>>> {
        let label = label.replace('=', "%3D");
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={label}");
        let list = self.control_plane().get(&path)?.accepted()?.body;
        let items = list.pointer("/items").and_then(Value::as_array);
        let living = |pod: &&Value| pod.pointer("/metadata/deletionTimestamp").is_none();
        let names = items
            .into_iter()
            .flatten()
            .filter(living)
            .filter_map(|pod| pod.pointer("/metadata/name").and_then(Value::as_str));
        names
            .map(|name| self.existing_pod(namespace, name))
            .collect()
    }
}

impl Workload<'_> {
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }

    /// The Pod as the API server has it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn object(&self) -> anyhow::Result<Value> {
        Ok(self
            .cluster
            .control_plane()
            .get(&self.path())?
            .accepted()?
            .body)
    }

    /// Waits until `condition` holds of the Pod.
    ///
    /// # Errors
    /// When it does not in time; the error shows the Pod's status.
    pub fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let mut seen = Value::Null;
        let what = format!("the Pod {} {what}", self.name);
        let waited = wait::until(&what, PHASE_DEADLINE, || {
            let Ok(object) = self.object() else {
                return false;
            };
            let holds = condition(&object);
            seen = object.pointer("/status").cloned().unwrap_or_default();
            holds
        });
        waited.with_context(|| format!("its status: {seen:#}"))
    }

    /// Waits until all its containers run.
    ///
    /// # Errors
    /// When they do not in time.
    pub fn until_running(&self) -> anyhow::Result<()> {
        self.until("runs", |pod| {
            let statuses = pod
                .pointer("/status/containerStatuses")
                .and_then(Value::as_array);
            statuses.is_some_and(|statuses| {
                statuses
                    .iter()
                    .all(|status| status.pointer("/state/running").is_some())
            })
        })
    }

    /// Waits until it has ended, well or not; its phase.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn ended(&self) -> anyhow::Result<String> {
        let phase = |pod: &Value| {
            let phase = pod.pointer("/status/phase").and_then(Value::as_str);
            phase.unwrap_or_default().to_owned()
        };
        self.until("ends", |pod| {
            ["Succeeded", "Failed"].contains(&phase(pod).as_str())
        })?;
        Ok(phase(&self.object()?))
    }

    /// What a container has written.
    ///
    /// # Errors
    /// When the kubelet does not say.
    pub fn log(&self, container: &str) -> anyhow::Result<String> {
        let mut logs = self.cluster.control_plane().kubectl()?;
        logs.args(["--namespace", &self.namespace, "logs", &self.name]);
        logs.args(["--container", container]);
        self.cluster.control_plane().printed(logs)
    }

    /// Runs a command in a container; what it printed.
    ///
    /// # Errors
    /// When it fails; the error has what it printed.
    pub fn exec(&self, container: &str, command: &[&str]) -> anyhow::Result<String> {
        let mut exec = self.cluster.control_plane().kubectl()?;
        exec.args(["--namespace", &self.namespace, "exec", &self.name]);
        exec.args(["--container", container, "--"]).args(command);
        self.cluster.control_plane().printed(exec)
    }

    /// Asks for credentials in a container, as an SDK does, with its own token or with `token`: status
    /// and body.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn credentials(&self, token: Option<&str>) -> anyhow::Result<(u16, Value)> {
        let printed = self.exec("main", &["python3", "-c", ASK, token.unwrap_or_default()])?;
        let (status, body) = printed.split_once(' ').context("no answer came back")?;
        let body = serde_json::from_str(body).unwrap_or_else(|_| body.into());
        Ok((status.parse()?, body))
    }

    /// Its service account token, as its containers read it.
    ///
    /// # Errors
    /// When it has none.
    pub fn token(&self) -> anyhow::Result<String> {
        let read = "cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
        self.exec("main", &["sh", "-c", read])
    }

    /// What its Events say, each with its reason in front.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn events(&self) -> anyhow::Result<Vec<String>> {
        let selector = format!("fieldSelector=involvedObject.uid%3D{}", self.uid);
        let path = format!("/api/v1/namespaces/{}/events?{selector}", self.namespace);
        let list = self.cluster.control_plane().get(&path)?.accepted()?.body;
        let events = list.pointer("/items").and_then(Value::as_array);
        let said = events.into_iter().flatten().map(|event| {
            let text = |name: &str| event.pointer(name).and_then(Value::as_str);
            let (reason, message) = (text("/reason"), text("/message"));
            format!(
                "{}: {}",
                reason.unwrap_or_default(),
                message.unwrap_or_default()
            )
        });
        Ok(said.collect())
    }

    /// Waits until one of its Events has all of these words; what that says.
    ///
    /// # Errors
    /// When none has in time; the error shows what there is.
    pub fn until_event(&self, words: &[&str]) -> anyhow::Result<String> {
        let (mut seen, mut found) = (Vec::new(), None);
        let what = format!("an Event of the Pod {} has the words {words:?}", self.name);
        let waited = wait::until(&what, PHASE_DEADLINE, || {
            seen = self.events().unwrap_or_default();
            let has = |event: &&String| words.iter().all(|word| event.contains(word));
            found = seen.iter().find(has).cloned();
            found.is_some()
        });
        waited.with_context(|| format!("its Events: {seen:#?}"))?;
        found.context("it was found")
    }

    /// How often a container was started anew.
    ///
    /// # Errors
    /// When the Pod is gone.
    pub fn restarts(&self, kind: &str) -> anyhow::Result<i64> {
        let pod = self.object()?;
        let count = pod.pointer(&format!("/status/{kind}/0/restartCount"));
        Ok(count.and_then(Value::as_i64).unwrap_or_default())
    }

    /// Writes an annotation of ours on it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn annotate(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let name = format!("local.test/{name}");
        let change = json!({ "metadata": { "annotations": { name: value } } });
        self.cluster
            .control_plane()
            .merge(&self.path(), &change)?
            .accepted()?;
        Ok(())
    }

    /// Asks for its end, as `kubectl delete pod` does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        let control_plane = self.cluster.control_plane();
        let json = "application/json";
        control_plane
            .send(Method::DELETE, &self.path(), json, Vec::new())?
            .accepted()?;
        Ok(())
    }

    /// Waits until it is gone.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn gone(&self) -> anyhow::Result<()> {
        wait::until(
            &format!("the Pod {} is gone", self.name),
            PHASE_DEADLINE,
            || {
                let found = self.cluster.control_plane().get(&self.path());
                found.is_ok_and(|pod| pod.code == 404 || pod.string("/metadata/uid") != self.uid)
            },
        )
    }

    /// Deletes it, and waits until it is gone.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn delete(&self) -> anyhow::Result<()> {
        self.ask_to_end()?;
        self.gone()
    }
}

/// Prints the status and the body of one request.
const ASK: &str = r#"
import os, sys, urllib.request
token = sys.argv[1] or open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read()
request = urllib.request.Request(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], headers={"Authorization": token})
try:
    answer = urllib.request.urlopen(request, timeout=15)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"#;
