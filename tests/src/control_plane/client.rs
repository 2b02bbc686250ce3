//! Who talks to the API server, and how: client configurations and kubeconfig files.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::certificates::{self, Certificates, Pair};
use super::{API_SERVER, ControlPlane};

/// The configuration of the client with every right.
pub(super) fn admin(certificates: &Certificates) -> anyhow::Result<kube::Config> {
    let pair = certificates.client(certificates::ADMIN)?;
    let mut config = kube::Config::new(API_SERVER.parse()?);
    config.root_cert = Some(vec![certificates.ca_der()]);
    config.auth_info.client_certificate = Some(pair.certificate.display().to_string());
    config.auth_info.client_key = Some(pair.key.display().to_string());
    Ok(config)
}

/// The user of a kubeconfig that shows a client certificate.
pub(super) fn by_certificate(pair: &Pair) -> anyhow::Result<Value> {
    let read = |path| fs::canonicalize(path).context("failed to find a certificate");
    Ok(json!({
        "client-certificate": read(&pair.certificate)?,
        "client-key": read(&pair.key)?,
    }))
}

impl ControlPlane {
    /// A kubeconfig with every right, for `kubectl` and `helm`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn admin_kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let path = self.directory.join("admin.kubeconfig");
        if path.exists() {
            return Ok(path);
        }
        let pair = self.certificates.client(certificates::ADMIN)?;
        self.kubeconfig_of("admin", &by_certificate(&pair)?)
    }

    /// A kubeconfig that shows a service account token.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, token: &str) -> anyhow::Result<PathBuf> {
        self.kubeconfig_of(&self.unique("token"), &json!({ "token": token }))
    }

    /// A kubeconfig that shows the token of a file, read again when it changes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig_with_token_file(&self, token: &std::path::Path) -> anyhow::Result<PathBuf> {
        self.kubeconfig_of(&self.unique("file"), &json!({ "tokenFile": token }))
    }

    /// A client with the rights of a service account token. Its futures run inside: see
    /// [`run`](Self::run).
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn client_with(&self, token: &str) -> anyhow::Result<kube::Client> {
        let mut config = kube::Config::new(API_SERVER.parse()?);
        config.root_cert = Some(vec![self.certificates.ca_der()]);
        config.auth_info.token = Some(token.to_owned().into());
        Ok(self.run(async move { kube::Client::try_from(config) })?)
    }

    /// A kubeconfig of a user, in a group where one is named, who shows a client certificate.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig_by_certificate(
        &self,
        (user, group): (&str, Option<&str>),
    ) -> anyhow::Result<PathBuf> {
        let pair = self.certificates.client((user, group))?;
        self.kubeconfig_of(&user.replace(':', "-"), &by_certificate(&pair)?)
    }

    /// Writes a kubeconfig for one user; JSON is YAML too.
    pub(super) fn kubeconfig_of(&self, name: &str, user: &Value) -> anyhow::Result<PathBuf> {
        let authority = fs::canonicalize(self.certificates.file("ca.crt"))?;
        let named = |kind: &str, value: Value| json!([{ "name": name, kind: value }]);
        let cluster = json!({ "server": API_SERVER, "certificate-authority": authority });
        let content = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": named("cluster", cluster),
            "users": named("user", user.clone()),
            "contexts": named("context", json!({ "cluster": name, "user": name })),
        });
        // Aside and renamed: tests that run together may ask for the same one.
        let path = self.directory.join(format!("{name}.kubeconfig"));
        let aside = self.directory.join(self.unique("kubeconfig"));
        fs::write(&aside, content.to_string())?;
        fs::rename(aside, &path)?;
        Ok(path)
    }
}
