//! What is in etcd, behind the API server's back.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::programs::{self, ask_etcd};
use super::{ControlPlane, START};

impl ControlPlane {
    /// Loses a Pod, as a store does that is restored to a revision before the Pod was made. Nobody is
    /// told: stop the API server before, and start it again after.
    ///
    /// # Errors
    /// When etcd does not answer, or has no such Pod.
    pub fn lose_pod(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        // The API server's own layout.
        let key = STANDARD.encode(format!("/registry/pods/{namespace}/{name}"));
        let body = json!({ "key": key }).to_string();
        let answer = self.run(ask_etcd("/v3/kv/deleterange", body))?;
        let deleted = answer.status == 200
            && answer
                .json()
                .get("deleted")
                .is_some_and(|count| count == "1");
        ensure!(deleted, "etcd answered {} {}", answer.status, answer.body);
        Ok(())
    }

    /// Copies what is in etcd, for [`restore_store`](Self::restore_store); a copy from before is
    /// replaced. The API server is without etcd meanwhile, and ready again afterwards.
    ///
    /// # Errors
    /// When a file cannot be copied, or etcd does not start again.
    pub fn save_store(&self) -> anyhow::Result<()> {
        self.servers().etcd = None;
        self.copied("etcd", "saved")?;
        self.start_etcd()?;
        let mut api_server = self.servers().api_server.take();
        if let Some(server) = &mut api_server {
            server.until("is ready", START, || self.is_ready())?;
        }
        self.servers().api_server = api_server;
        Ok(())
    }

    /// Puts the copy in the place of what etcd has, as after the loss of a control plane: what was
    /// written since is gone, and versions are counted again from those of the copy. API server,
    /// controllers and scheduler start anew, as Kubernetes asks of whoever restores etcd: theirs
    /// are watches of the future too.
    ///
    /// # Errors
    /// When nothing was saved, or a part does not start; the error shows the end of its log.
    pub fn restore_store(&self) -> anyhow::Result<()> {
        let (had_controllers, had_scheduler) = {
            let mut servers = self.servers();
            servers.api_server = None;
            servers.etcd = None;
            // Taken and dropped: the next ones listen where these do.
            let controllers = servers.controllers.take().is_some();
            (controllers, servers.scheduler.take().is_some())
        };
        self.copied("saved", "etcd")?;
        self.start_etcd()?;
        self.start_api_server()?;
        // There is a scheduler where there are nodes.
        if had_scheduler {
            self.start_controllers(programs::WITH_NODES)?;
            self.start_scheduler()?;
        } else if had_controllers {
            self.start_controllers(programs::WITHOUT_NODES)?;
        }
        Ok(())
    }

    fn start_etcd(&self) -> anyhow::Result<()> {
        let etcd = programs::etcd(&self.network, &self.directory)?;
        self.servers().etcd = Some(etcd);
        Ok(())
    }

    /// Has one directory hold what is in another, and nothing else, where etcd's is mounted.
    fn copied(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let [from, to]: [PathBuf; 2] = [from, to].map(|name| self.directory.join(name));
        let mut copy = Command::new("sh");
        copy.args([
            "-ec",
            r#"mkdir -p "$1"; rm -rf "$1/member"; cp -a "$0/member" "$1/""#,
        ]);
        copy.args([from, to]);
        let output = self.network.call(move || copy.output());
        let output = output.context("failed to start a shell")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{complaint}");
        Ok(())
    }
}
