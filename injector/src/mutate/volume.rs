//! The volume that leads a Pod to its agent's sockets: the node's directory, or a CSI volume of the
//! Pod's own where the namespace forbids that.

use serde_json::{Map, Value, json};
use shared::contract::{AGENT_VOLUME, ANNOTATION_PREFIX, CSI_DRIVER};

use super::settings::Settings;
use super::subject::{PodSecurity, Subject};
use super::warnings::Warnings;

/// Which volume is asked for, by the admin or by an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeChoice {
    /// The node's directory, wherever the Pod is.
    HostPath,
    /// An inline CSI volume, wherever the Pod is.
    Csi,
    /// The CSI volume where the namespace forbids the other and a driver is there.
    Auto,
}

/// The volume that a Pod gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Volume {
    /// The node's directory.
    HostPath,
    /// A directory of the Pod's own, from the driver.
    Csi {
        /// Whether the Pod waits for credentials; `None` leaves it to the driver.
        waits: Option<bool>,
    },
}

impl Volume {
    /// Decides between both. `asked` and `waits` are what annotations say.
    pub(super) fn decide(
        asked: Option<VolumeChoice>,
        waits: Option<bool>,
        subject: &Subject<'_>,
        settings: &Settings,
        warnings: &mut Warnings<'_>,
    ) -> Self {
        let forbidden = subject.pod_security != PodSecurity::Privileged;
        let choice = asked.unwrap_or(settings.volume);
        let wanted = match choice {
            VolumeChoice::HostPath => false,
            VolumeChoice::Csi => true,
            VolumeChoice::Auto => forbidden,
        };
        if wanted && settings.csi {
            return Self::Csi { waits };
        }
        if choice == VolumeChoice::Csi {
            warnings.say(
                "caios.coreweave.com/volume asks for a CSI volume, and this cluster has no CAIOS \
                 CSI driver, so the Pod gets a hostPath volume: the admin can set csi.enabled=true \
                 in the chart; or remove the annotation",
            );
        }
        if waits == Some(true) {
            warnings.say(
                "caios.coreweave.com/wait-for-credentials has no effect: only a Pod with a CSI \
                 volume can wait, and this one gets a hostPath volume; see \
                 caios.coreweave.com/volume",
            );
        }
        Self::HostPath
    }

    /// Warns of a volume that the API server will refuse.
    pub(super) fn warn(
        self,
        enforced: PodSecurity,
        settings: &Settings,
        warnings: &mut Warnings<'_>,
    ) {
        if self != Self::HostPath {
            return;
        }
        let level = match enforced {
            PodSecurity::Privileged => return,
            PodSecurity::Baseline => "baseline",
            PodSecurity::Restricted => "restricted",
        };
        let cure = if settings.csi {
            "annotate the Pod with caios.coreweave.com/volume: csi, which this cluster has a \
             driver for"
        } else {
            "the admin can set csi.enabled=true in the chart, or label the namespace \
             pod-security.kubernetes.io/enforce=privileged"
        };
        warnings.say(&format!(
            "the namespace enforces Pod Security `{level}`, which forbids the hostPath volume to \
             the agent: {cure}"
        ));
    }

    /// The volume as a Pod has it; its token is for `audience`.
    ///
    /// The node's directory is made where it is missing, so that a Pod may start before the node's
    /// agent; `caios-enroll` waits for it. The kubelet waits for the driver.
    pub(super) fn render(self, audience: &str, settings: &Settings) -> Value {
        match self {
            Self::HostPath => json!({
                "name": AGENT_VOLUME,
                "hostPath": {"path": settings.public_directory, "type": "DirectoryOrCreate"},
            }),
            Self::Csi { waits } => json!({
                "name": AGENT_VOLUME,
                "csi": {
                    "driver": CSI_DRIVER,
                    "readOnly": true,
                    "volumeAttributes": attributes(audience, waits),
                },
            }),
        }
    }

    /// Whether a volume of that name is this one.
    pub(super) fn is(self, volume: &Value, audience: &str, settings: &Settings) -> bool {
        match self {
            Self::HostPath => {
                let path = volume.pointer("/hostPath/path").and_then(Value::as_str);
                path.is_some_and(|path| path.trim_end_matches('/') == settings.public_directory)
            }
            Self::Csi { waits } => {
                let is = |field: &str, value: Value| {
                    let found = volume.get("csi").and_then(|csi| csi.get(field));
                    found == Some(&value)
                };
                is("driver", CSI_DRIVER.into())
                    && is("readOnly", true.into())
                    && is("volumeAttributes", attributes(audience, waits).into())
            }
        }
    }
}

/// What the driver reads of the volume.
fn attributes(audience: &str, waits: Option<bool>) -> Map<String, Value> {
    let waits = waits.map(|waits| ("wait-for-credentials", waits.to_string()));
    let all = [("audience", audience.to_owned())].into_iter().chain(waits);
    all.map(|(name, value)| (format!("{ANNOTATION_PREFIX}{name}"), value.into()))
        .collect()
}
