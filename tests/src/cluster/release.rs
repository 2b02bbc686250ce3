//! The chart, installed by Helm as the tutorial does.

use serde_json::json;

use super::{Cluster, PHASE_DEADLINE, Workload, spec};
use crate::chart::{NAMESPACE, RELEASE};
use crate::injector::injected;
use crate::wait;

/// The image as `tests/images.sh` calls it.
const IMAGE: &str = "localhost/caios-credential-agent";
/// As the S3 server behind the stand-in wants it: that takes no capitals.
const REGION: &str = "us-east-04a";
/// Less than the default, which many Pods on a small machine have no place for together.
const ENROLL_CPU: &str = "20m";
/// With a line for each call of the kubelet. Helm takes a comma for the next value.
const LOG: &str = r"info\,agent::csi=debug";
/// How long a rollout may take, in the form that kubectl wants.
const ROLLED_OUT: &str = "120s";

impl Cluster {
    /// Installs the chart, where it is not installed yet, with the values of the tutorial, our image
    /// and the authority that signs for what plays CoreWeave; waits until it is rolled out. What Helm
    /// printed.
    ///
    /// # Errors
    /// When Helm fails, or the Pods are not ready in time.
    pub fn install(&self) -> anyhow::Result<String> {
        let mut notes = super::locked(&self.notes);
        if let Some(notes) = &*notes {
            return Ok(notes.clone());
        }
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
        });
        self.control_plane().apply(&namespace)?.accepted()?;
        self.publish_authority(self.coreweave().standin().ca_pem())?;
        let printed = self.typed(&format!(
            "export ORG_ID=my-org REGION={REGION} IMAGE={IMAGE}
             helm install {RELEASE} ./helm -n {NAMESPACE} --create-namespace \\
                 --set config.orgID=$ORG_ID --set config.region=$REGION \\
                 --set image.repository=$IMAGE --set caBundle.configMap=coreweave-ca \\
                 --set injector.enroll.cpu={ENROLL_CPU} \\
                 --set csi.enabled=true --set-string 'config.log={LOG}'"
        ))?;
        self.until_rolled_out()?;
        *notes = Some(printed.clone());
        Ok(printed)
    }

    /// Writes the `ConfigMap` with the authority that the agent trusts for CoreWeave, PEM.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn publish_authority(&self, authority: &str) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "namespace": NAMESPACE, "name": "coreweave-ca" },
            "data": { "ca.crt": authority },
        });
        self.control_plane().apply(&object)?.accepted()?;
        Ok(())
    }

    /// Waits until agent and injector are ready in their current version.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn until_rolled_out(&self) -> anyhow::Result<()> {
        self.typed(&format!(
            "kubectl -n {NAMESPACE} rollout status daemonset/caios-agent --timeout {ROLLED_OUT}
             kubectl -n {NAMESPACE} rollout status deployment/caios-injector --timeout {ROLLED_OUT}"
        ))?;
        Ok(())
    }

    /// Waits until the webhook changes the Pods of a ServiceAccount: the API server takes a moment to
    /// learn of it.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn until_injected(&self, namespace: &str, service_account: &str) -> anyhow::Result<()> {
        let mut spec = spec::restricted(&spec::pod_spec(&[spec::container("main", &["true"])]));
        if let Some(name) = spec.get_mut("serviceAccountName") {
            *name = service_account.into();
        }
        let probe = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "namespace": namespace, "name": "probe" },
            "spec": spec,
        });
        wait::until("the webhook is called", PHASE_DEADLINE, || {
            let answer = self.control_plane().create_dry(&probe);
            answer.is_ok_and(|answer| injected(&answer.body))
        })
    }

    /// The agent's Pod.
    ///
    /// # Errors
    /// When there is not exactly one.
    pub fn agent(&self) -> anyhow::Result<Workload<'_>> {
        let mut agents = self.pods(NAMESPACE, "app.kubernetes.io/component=agent")?;
        anyhow::ensure!(agents.len() == 1, "{} agents on the node", agents.len());
        agents
            .pop()
            .ok_or_else(|| anyhow::anyhow!("no agent on the node"))
    }

    /// The value of one of the agent's series, named as Prometheus shows it; 0 where it has none yet.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn agent_metric(&self, series: &str) -> anyhow::Result<f64> {
        let agent = self.agent()?;
        let address = agent.object()?;
        let address = address
            .pointer("/status/podIP")
            .and_then(serde_json::Value::as_str);
        let address = format!("{}:9469", address.unwrap_or_default()).parse()?;
        let admin = crate::admin::Admin::new(self.control_plane().network(), address);
        // It has no series of what it has not counted yet.
        let known = admin.get("/metrics")?.body.contains(&format!("{series} "));
        if known { admin.metric(series) } else { Ok(0.0) }
    }
}
