//! What enrolment asks of the rest of the agent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use shared::serve::{Connections, Limits, serve};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::enrolment::{Enroller, Listed, PodListener};
use crate::error::Error;
use crate::exchange::Exchange;
use crate::route::Route;
use crate::status::Ledger;
use crate::tenants::Tenants;
use crate::workload::{Pod, PodUid, Workload};

/// Serves the listeners of enrolled Pods.
pub(super) struct Pods<E: Exchange> {
    pub(super) broker: Arc<Broker<E>>,
    pub(super) route: Route<Broker<E>>,
    pub(super) limits: Limits,
    pub(super) connections: Connections,
    pub(super) ledger: Arc<Ledger>,
}

impl<E: Exchange> Enroller for Pods<E> {
    async fn verify(&self, token: &[u8]) -> Result<Arc<Workload>, Error> {
        self.broker.verifier().verify(Some(token), None).await
    }

    async fn first_exchange(&self, workload: &Arc<Workload>) -> Result<(), Error> {
        self.broker.first_exchange(workload).await
    }

    /// None: what the watch of Pods knows is older than a Pod's new sandbox, and stays so while the
    /// API server is away. [`crate::watch`] compares them later, when both sides have spoken.
    fn addresses(&self, _pod: &PodUid) -> Vec<IpAddr> {
        Vec::new()
    }

    fn serve(
        &self,
        tenants: Arc<Tenants>,
        listener: PodListener,
        stop: CancellationToken,
    ) -> JoinHandle<()> {
        let route = self.route.clone();
        let service = move |request| {
            let (route, tenants) = (route.clone(), Arc::clone(&tenants));
            async move { route.answer(request, Some(&tenants)).await }
        };
        let (limits, connections) = (self.limits.clone(), self.connections.clone());
        tokio::spawn(serve(listener, limits, connections, service, stop))
    }

    fn list(&self, pod: &Pod, addresses: &[SocketAddr]) -> Vec<Listed> {
        let list = |address: &SocketAddr| -> Listed { Box::new(self.ledger.list(pod, *address)) };
        addresses.iter().map(list).collect()
    }
}
