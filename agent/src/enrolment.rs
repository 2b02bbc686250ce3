//! Enrolment: takes a listener in a Pod's network namespace from `caios-enroll`.
//!
//! What a Pod hands over is hostile input. The token is verified before the kernel is asked for
//! the descriptors; these are received, checked, used and closed on the blocking pool alone,
//! because even closing one may block. By default the agent then makes a listener of its own out
//! of a connection that it accepted ([`Mode::Reown`]), so that nobody in the Pod holds it too.
//!
//! Start with [`Intake`].

mod about;
mod adopt;
mod answer;
mod conversation;
mod descriptor;
mod handed;
mod intake;
mod listener;
mod networks;
mod readiness;
mod reattach;
mod registration;
mod registry;
mod reown;
mod served;
mod take;
mod turn;
mod unkept;
mod waiting;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use descriptor::sockopt::netns_cookie;
pub(crate) use descriptor::{addresses, local_address};
pub use intake::Intake;
pub use listener::PodListener;
pub(crate) use registration::Witness;
pub use registry::Registry;

pub(crate) use adopt::Adopted;
pub(crate) use readiness::watch;

use crate::error::Error;
use crate::tenants::Tenants;
use crate::workload::{Pod, PodUid, Workload};

/// How a listener is taken from a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Accept one connection and make the accepted socket, which nobody else holds, the listener.
    Reown,
    /// Serve the Pod's own listener, which the Pod may have kept. For kernels on which re-owning
    /// fails; each accept then takes a thread of the blocking pool.
    Plain,
}

/// The settings of enrolment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where `enroll.sock` is published.
    pub socket: PathBuf,
    /// How listeners are taken.
    pub mode: Mode,
    /// The most connections that have not sent their message; beyond it the oldest is dropped.
    pub max_waiting: usize,
    /// How long a connection may take to send its message.
    pub message_timeout: Duration,
    /// The most descriptors that are examined at once.
    pub max_blocking: usize,
    /// How long an answer waits for the first exchange.
    pub first_exchange_wait: Duration,
    /// The most Pods that are enrolled at once.
    pub max_pods: usize,
}

impl Settings {
    /// The defaults, for a socket at `socket`.
    pub const fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            mode: Mode::Reown,
            max_waiting: 256,
            message_timeout: Duration::from_secs(2),
            max_blocking: 8,
            first_exchange_wait: Duration::from_secs(2),
            max_pods: 1024,
        }
    }
}

/// Whatever is to last as long as an enrolled Pod.
pub type Listed = Box<dyn Any + Send + Sync>;

/// What enrolment needs from the rest of the agent.
pub trait Enroller: Send + Sync + 'static {
    /// Verifies a service account token as it came.
    fn verify(&self, token: &[u8]) -> impl Future<Output = Result<Arc<Workload>, Error>> + Send;

    /// Returns when credentials of `workload` are in memory.
    ///
    /// # Cancel safety
    /// Must be safe: it is dropped when an answer cannot wait any longer.
    fn first_exchange(
        &self,
        workload: &Arc<Workload>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The addresses that `pod` is known to have; empty where they are not known.
    fn addresses(&self, pod: &PodUid) -> Vec<IpAddr>;

    /// Starts to serve `tenants` on `listener` until `stop` is cancelled, and then drops it.
    fn serve(
        &self,
        tenants: Arc<Tenants>,
        listener: PodListener,
        stop: CancellationToken,
    ) -> JoinHandle<()>;

    /// Lists `pod` as served at `addresses`, inside its network namespace, until what comes back is
    /// dropped.
    fn list(&self, pod: &Pod, addresses: &[SocketAddr]) -> Vec<Listed>;
}
