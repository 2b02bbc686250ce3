//! What the driver answers the kubelet. Its log has method, Pod, outcome and time alone: requests
//! hold tokens.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;

use super::Settings;
use super::decide::{self, Place, Refusal};
use super::message::{
    NodeInfo, PluginInfo, PublishRequest, RegisteredPlugin, RegistrationStatus, UnpublishRequest,
};
use super::place;
use super::protocol::{About, Verdict};
use super::volumes::Volumes;

/// The driver.
pub(super) struct Driver {
    name: String,
    node: String,
    pods: PathBuf,
    endpoint: PathBuf,
    wait: bool,
    volumes: Arc<Volumes>,
}

impl Driver {
    pub(super) fn new(settings: &Settings, volumes: Arc<Volumes>) -> Self {
        Self {
            name: settings.driver.clone(),
            node: settings.node.clone(),
            pods: settings.pods(),
            endpoint: settings.endpoint(),
            wait: settings.wait,
            volumes,
        }
    }

    pub(super) fn plugin(&self) -> PluginInfo {
        PluginInfo {
            name: self.name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(super) fn node(&self) -> NodeInfo {
        NodeInfo {
            node_id: self.node.clone(),
        }
    }

    pub(super) fn registered(&self) -> RegisteredPlugin {
        RegisteredPlugin {
            r#type: "CSIPlugin".to_owned(),
            name: self.name.clone(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec!["1.0.0".to_owned()],
        }
    }

    pub(super) fn note(status: &RegistrationStatus) {
        if status.plugin_registered {
            tracing::info!("the kubelet has registered the driver");
        } else {
            let reason = &status.error;
            tracing::error!(?reason, "the kubelet does not register the driver");
        }
    }

    /// Publishes a volume, or sees that one that was published is still served.
    pub(super) async fn publish(&self, request: PublishRequest) -> Result<(), Status> {
        let plan = decide::publish(request, &self.pods, self.wait);
        let plan = plan.map_err(|why| refused("NodePublishVolume", &why))?;
        let (place, started) = (plan.place.clone(), Instant::now());
        let done = self.place(plan).await;
        log("NodePublishVolume", &place, &done, started);
        done
    }

    async fn place(&self, plan: decide::Plan) -> Result<(), Status> {
        let volume = plan.volume;
        let _turn = self.volumes.begin(&volume).ok_or_else(busy)?;
        self.volumes.linked().await?;
        if self.volumes.holds(&volume, &plan.place) {
            // The kubelet asks again for each running Pod: that must not fail, and brings a newer
            // token.
            self.volumes.refresh(&volume, plan.token.as_bytes());
            return Ok(());
        }
        let made = place::make(&self.pods, &plan.place);
        let (sockets, file) =
            made.map_err(|error| failed("make the volume's directory and sockets", &error))?;
        let about = About {
            place: plan.place,
            file,
        };
        let place = about.place.clone();
        let token = plan.token.as_bytes();
        let answer = self.volumes.take(&volume, about, sockets, plan.wait, token);
        let why = match answer.await {
            Ok((Verdict::Taken, _)) => return Ok(()),
            Ok((Verdict::Refused, why)) => Status::permission_denied(why),
            Ok((Verdict::Busy, why)) => Status::unavailable(why),
            Err(status) => status,
        };
        // The kubelet removes what it made, and can do so in an empty directory alone.
        let _ = place::remove(&self.pods, &place);
        Err(why)
    }

    /// Removes a volume; one that is unknown or gone is as good as removed.
    pub(super) fn unpublish(&self, request: &UnpublishRequest) -> Result<(), Status> {
        let UnpublishRequest {
            volume_id,
            target_path,
        } = request;
        let place = decide::unpublish(volume_id, target_path, &self.pods);
        let place = place.map_err(|why| refused("NodeUnpublishVolume", &why))?;
        let started = Instant::now();
        let done = self.remove(volume_id, &place);
        log("NodeUnpublishVolume", &place, &done, started);
        done
    }

    fn remove(&self, volume: &str, place: &Place) -> Result<(), Status> {
        let _turn = self.volumes.begin(volume).ok_or_else(busy)?;
        let removed = place::remove(&self.pods, place);
        removed.map_err(|error| failed("remove the volume's directory", &error))?;
        self.volumes.ended(volume);
        Ok(())
    }
}

fn log(method: &'static str, place: &Place, done: &Result<(), Status>, started: Instant) {
    let pod_uid = &place.pod;
    let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
    match done {
        Ok(()) => tracing::debug!(method, pod_uid, outcome = "done", elapsed_ms),
        Err(status) => {
            let (outcome, reason) = (status.code(), status.message());
            tracing::warn!(method, pod_uid, ?outcome, ?reason, elapsed_ms);
        }
    }
}

fn refused(method: &'static str, why: &Refusal) -> Status {
    tracing::warn!(method, outcome = "refused", reason = ?why.to_string());
    Status::invalid_argument(why.to_string())
}

fn busy() -> Status {
    Status::aborted("another call for this volume is under way")
}

fn failed(what: &str, error: &std::io::Error) -> Status {
    Status::internal(format!("failed to {what}: {error}"))
}
