//! What the CSI volumes of Pods ask of the rest of the agent.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;

use shared::serve::serve;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::pods::Pods;
use crate::broker::Broker;
use crate::door::Door;
use crate::enrolment::{Intake, Registry};
use crate::error::Error;
use crate::exchange::Exchange;
use crate::metrics::{ListenerEnd, Metrics};
use crate::tenants::Tenants;
use crate::volumes::Host;
use crate::workload::{PodUid, Workload};

/// Serves the sockets of Pods' volumes.
pub(super) struct Mounted<E: Exchange> {
    pub(super) broker: Arc<Broker<E>>,
    pub(super) intake: Intake<Pods<E>>,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Metrics,
}

impl<E: Exchange> Host for Mounted<E> {
    async fn verify(&self, token: &[u8]) -> Result<Arc<Workload>, Error> {
        self.broker.verifier().verify(Some(token), None).await
    }

    async fn first_exchange(&self, workload: &Arc<Workload>) -> Result<(), Error> {
        self.broker.first_exchange(workload).await
    }

    fn serve(
        &self,
        pod: &PodUid,
        enroll: Arc<OwnedFd>,
        agent: StdListener,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let agent = UnixListener::from_std(agent)?;
        let (door, only) = (Door::over(enroll)?, Some(pod.clone()));
        tokio::spawn(self.intake.clone().run(door, only, stop.clone()));
        let pods = self.intake.enroller();
        let (route, tenants) = (pods.route.clone(), Arc::new(Tenants::of(pod.clone())));
        let answer = move |request| {
            let (route, tenants) = (route.clone(), Arc::clone(&tenants));
            async move { route.answer(request, Some(&tenants)).await }
        };
        let (limits, connections) = (pods.limits.clone(), pods.connections.clone());
        tokio::spawn(serve(agent, limits, connections, answer, stop));
        Ok(())
    }

    fn ended(&self, pod: &PodUid) {
        if self.registry.remove(pod) {
            self.metrics.watch.ended.of(ListenerEnd::Unpublished).inc();
            tracing::info!(pod_uid = %pod, "a Pod's volume is gone; its listeners end");
        }
        self.broker.forget(pod);
    }
}
