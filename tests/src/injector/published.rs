//! What an injector shares with its replicas and the API server: its Secret and `caBundle`. And its
//! rights, which a test may take and give back.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Release;

impl Release<'_> {
    /// Gives the injector its rights again.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn allow(&self) -> anyhow::Result<()> {
        self.apply("ClusterRoleBinding")?;
        self.apply("RoleBinding")
    }

    /// Takes all its rights.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn forbid(&self) -> anyhow::Result<()> {
        let group = "/apis/rbac.authorization.k8s.io/v1";
        let binding = self.named("RoleBinding")?;
        for path in [
            format!("{group}/clusterrolebindings/{}", self.webhooks),
            format!(
                "{group}/namespaces/{}/rolebindings/{binding}",
                self.namespace
            ),
        ] {
            self.cluster.delete(&path)?.accepted()?;
        }
        Ok(())
    }

    /// Makes the Secret again, empty, as `helm upgrade` does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn make_secret(&self) -> anyhow::Result<()> {
        self.apply("Secret")
    }

    /// The path of the Secret.
    ///
    /// # Errors
    /// When the chart has none.
    pub fn secret_path(&self) -> anyhow::Result<String> {
        let name = self.named("Secret")?;
        Ok(format!(
            "/api/v1/namespaces/{}/secrets/{name}",
            self.namespace
        ))
    }

    /// What the Secret holds, in base64 as it comes.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn secret(&self) -> anyhow::Result<Value> {
        let secret = self.cluster.get(&self.secret_path()?)?.body;
        Ok(secret.get("data").cloned().unwrap_or_default())
    }

    /// The path of the webhook configuration.
    pub fn configuration_path(&self) -> String {
        let group = "/apis/admissionregistration.k8s.io/v1";
        format!("{group}/mutatingwebhookconfigurations/{}", self.webhooks)
    }

    /// The `caBundle` of every webhook, in base64.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn bundles(&self) -> anyhow::Result<Vec<String>> {
        let configuration = self.cluster.get(&self.configuration_path())?.accepted()?;
        let webhooks = configuration.body.get("webhooks").and_then(Value::as_array);
        let bundle = |webhook: &Value| {
            let bundle = webhook.pointer("/clientConfig/caBundle");
            bundle
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Ok(webhooks.into_iter().flatten().map(bundle).collect())
    }

    /// Sets the `caBundle` of every webhook, in base64 and in their order; `None` removes it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn set_bundles(&self, bundles: [Option<&str>; 2]) -> anyhow::Result<()> {
        let path = self.configuration_path();
        let mut configuration = self.cluster.get(&path)?.accepted()?.body;
        let webhooks = configuration.get_mut("webhooks").map(Value::take);
        let mut webhooks = webhooks.context("a configuration has webhooks")?;
        let entries = webhooks.as_array_mut().into_iter().flatten();
        for (webhook, bundle) in entries.zip(bundles) {
            let client = webhook.get_mut("clientConfig");
            let client = client.and_then(Value::as_object_mut);
            let client = client.context("a webhook has a `clientConfig`")?;
            client.insert("caBundle".to_owned(), json!(bundle));
        }
        let change = json!({ "webhooks": webhooks });
        self.cluster.merge(&path, &change)?.accepted()?;
        Ok(())
    }

    /// Whether every webhook trusts what the Secret holds.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn is_published(&self) -> anyhow::Result<bool> {
        let secret = self.secret()?;
        let authority = secret.get("ca.crt").and_then(Value::as_str);
        let bundles = self.bundles()?;
        let trusts = |bundle: &String| Some(bundle.as_str()) == authority;
        Ok(bundles.len() == 2 && bundles.iter().all(trusts))
    }

    /// The one object of a kind, as rendered.
    fn object(&self, kind: &str) -> anyhow::Result<&Value> {
        let mut found = self.objects.iter().filter(|object| object["kind"] == kind);
        found
            .next()
            .with_context(|| format!("the chart has a {kind}"))
    }

    fn named(&self, kind: &str) -> anyhow::Result<&str> {
        let name = self.object(kind)?.pointer("/metadata/name");
        name.and_then(Value::as_str).context("objects have names")
    }

    fn apply(&self, kind: &str) -> anyhow::Result<()> {
        self.cluster.apply(self.object(kind)?)?.accepted()?;
        Ok(())
    }
}
