//! The sockets on which descriptors are handed over.

use std::sync::Arc;

use prometheus::IntCounter;
use shared::parts::Parts;
use tokio_util::sync::CancellationToken;

use super::bound;
use super::mounted::Mounted;
use super::pods::Pods;
use crate::config::Config;
use crate::enrolment::Intake;
use crate::exchange::coreweave::CoreWeave;
use crate::lost;
use crate::volumes::{self, Volumes};
use crate::watch::Unserved;

/// What others hand descriptors to.
pub(super) struct Doors {
    pub(super) intake: Intake<Pods<CoreWeave>>,
    pub(super) volumes: Arc<Volumes<Mounted<CoreWeave>>>,
    pub(super) unserved: Option<Arc<Unserved>>,
    pub(super) accept_errors: IntCounter,
}

impl Doors {
    /// Publishes the sockets, and serves on them until `stop`.
    pub(super) fn open(
        self,
        config: &Config,
        serving: &mut Parts,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let Self {
            intake,
            volumes,
            unserved,
            accept_errors,
        } = self;
        let door = bound(&config.enrolment.socket, intake.open())?;
        let enrolment = intake.clone().run(door, None, stop.clone());
        serving.spawn("the enrolment socket", enrolment);
        let path = &config.csi_socket;
        let door = bound(path, volumes::open(path))?;
        serving.spawn(
            "the socket of the CSI driver",
            volumes.run(door, stop.clone()),
        );
        if let Some(unserved) = unserved {
            let path = &config.reattach_socket;
            let door = bound(path, lost::open(path))?;
            let brought = lost::run(door, unserved, intake, accept_errors, stop.clone());
            serving.spawn("the socket for lost listeners", brought);
        }
        Ok(())
    }
}
