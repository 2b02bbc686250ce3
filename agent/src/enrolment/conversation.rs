//! One connection: a message, an answer, closed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use shared::enrolment::{
    MAX_REPLY_BYTES, MAX_REQUEST_BYTES, RequestError, Status, VERSION, parse_request,
};
use tokio::io::Interest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::descriptor::{Cookie, Namespace};
use super::readiness::watch;
use super::registry::{Enrolling, Registration, Registry};
use super::take::{Refusal, Taken, Wanted, take};
use super::waiting::Place;
use super::{Enroller, PodListener, Settings};
use crate::error::Error;
use crate::metrics::{Delivery, EnrolmentOutcome, Metrics};
use crate::workload::{Pod, Workload};

/// A token may need the issuer's keys fetched first.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// Two re-owned listeners take two seconds at most.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared<E> {
    pub(super) settings: Settings,
    pub(super) enroller: E,
    pub(super) metrics: Metrics,
    pub(super) registry: Arc<Registry>,
    pub(super) own: Cookie,
    /// Bounds the threads that examine descriptors.
    pub(super) examining: Arc<Semaphore>,
    /// Bounds the threads of plain accepts.
    pub(super) accepting: Arc<Semaphore>,
}

/// An answer: a status and what to tell the Pod.
type Answer = (Status, String, EnrolmentOutcome);

impl<E: Enroller> Shared<E> {
    /// Serves one connection: a message, an answer, closed. `permit` is given back after that.
    pub(super) async fn converse(
        self: Arc<Self>,
        socket: OwnedFd,
        place: Arc<Place>,
        shutdown: CancellationToken,
        permit: OwnedSemaphorePermit,
    ) {
        let socket = Arc::new(socket);
        let message = tokio::select! {
            message = timeout(self.settings.message_timeout, first_message(&socket)) => message,
            () = place.evicted() => Ok(None),
            () = shutdown.cancelled() => Ok(None),
        };
        place.leave();
        if let Ok(Some(message)) = message {
            let started = Instant::now();
            let (status, text, outcome) = tokio::select! {
                answer = self.answer(&message, &socket) => answer,
                () = shutdown.cancelled() => busy("the node's agent is stopping"),
            };
            drop(message);
            self.metrics.enrolments.of(outcome).inc();
            let elapsed = started.elapsed().as_secs_f64();
            self.metrics.enrolment_duration.observe(elapsed);
            tracing::debug!(?outcome, message = text, "enrolment ended");
            // The one packet on this connection always fits into its buffer; a peer that never
            // reads holds nobody up.
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = rustix::net::send(&socket, &packet(status, &text), flags);
        }
        // The close would cut the reply off if the message was still unread, and either may have
        // to close sockets that linger.
        tokio::task::spawn_blocking(move || {
            let _ = rustix::net::recv(&socket, &mut [0u8; 1], RecvFlags::DONTWAIT);
            drop(socket);
            drop(permit);
        });
    }

    /// Decides on a request whose descriptors are still in the kernel.
    async fn answer(&self, message: &[u8], connection: &Arc<OwnedFd>) -> Answer {
        let request = match parse_request(message) {
            Ok(request) => request,
            Err(problem) => return rejected(explain(problem)),
        };
        let verified = timeout(VERIFY_TIMEOUT, self.enroller.verify(request.token)).await;
        let workload = match verified {
            Ok(Ok(workload)) => workload,
            Ok(Err(Error::Unavailable { reason, .. })) => return busy(reason),
            Ok(Err(error)) => {
                let outcome = EnrolmentOutcome::Unauthenticated;
                return (Status::Rejected, error.to_string(), outcome);
            }
            Err(_elapsed) => return busy("the token could not be verified in time"),
        };
        let Some(turn) = self.registry.begin(&workload.pod.uid) else {
            return busy("another enrolment of this Pod is under way");
        };
        let outcome = match self.enrol(&workload, request.port, connection, turn).await {
            Ok(outcome) => outcome,
            Err(Refusal::Rejected(why)) => return rejected(why),
            Err(Refusal::Busy(why)) => return busy(why),
        };
        let first = self.enroller.first_exchange(&workload);
        match timeout(self.settings.first_exchange_wait, first).await {
            Ok(Ok(())) => (Status::Ready, String::new(), outcome),
            Ok(Err(error @ Error::Forbidden(_))) => {
                (Status::RefusedByIssuer, error.to_string(), outcome)
            }
            Ok(Err(error)) => (Status::Enrolled, error.to_string(), outcome),
            Err(_elapsed) => (Status::Enrolled, String::new(), outcome),
        }
    }

    /// Takes the listeners of a verified Pod, starts to serve them and registers the Pod.
    async fn enrol(
        &self,
        workload: &Arc<Workload>,
        port: u16,
        connection: &Arc<OwnedFd>,
        turn: Enrolling,
    ) -> Result<EnrolmentOutcome, Refusal> {
        let late = || Refusal::Busy("the listener could not be examined in time".to_owned());
        let examined = async {
            let _permit = self.examining.acquire().await.map_err(|_| late())?;
            let workload = Arc::clone(workload);
            let connection = Arc::clone(connection);
            let registry = Arc::clone(&self.registry);
            let (mode, own) = (self.settings.mode, self.own);
            let addresses = self.enroller.addresses(&workload.pod.uid);
            // The turn goes with the work: should a descriptor block its thread for ever, its Pod
            // alone cannot enrol again.
            tokio::task::spawn_blocking(move || {
                let wanted = Wanted {
                    pod: &workload.pod.uid,
                    port,
                    mode,
                    own,
                    addresses: &addresses,
                };
                (take(&connection, &wanted, &registry), turn)
            })
            .await
            .map_err(|_panicked| late())
        };
        let (taken, _turn) = timeout(TAKE_TIMEOUT, examined)
            .await
            .map_err(|_elapsed| late())??;
        match taken? {
            Taken::Known => Ok(EnrolmentOutcome::Known),
            Taken::New {
                listeners,
                namespace,
                replaces,
            } => {
                let pod = &workload.pod;
                self.serve(pod, listeners, namespace).map_err(|error| {
                    Refusal::Busy(format!("failed to start serving the listener: {error}"))
                })?;
                tracing::info!(
                    namespace = pod.namespace,
                    pod = pod.name,
                    pod_uid = %pod.uid,
                    replaces,
                    "enrolled a Pod"
                );
                Ok(if replaces {
                    EnrolmentOutcome::Replaced
                } else {
                    EnrolmentOutcome::Enrolled
                })
            }
        }
    }

    fn serve(&self, pod: &Pod, listeners: Vec<OwnedFd>, namespace: Namespace) -> io::Result<()> {
        let listeners: Vec<_> = listeners.into_iter().map(Arc::new).collect();
        let Some(witness) = listeners.first().map(Arc::clone) else {
            return Ok(());
        };
        let mode = self.settings.mode;
        let ready = listeners
            .into_iter()
            .map(|socket| PodListener::new(socket, mode, Arc::clone(&self.accepting)))
            .collect::<io::Result<Vec<_>>>()?;
        let stop = CancellationToken::new();
        let served = ready
            .into_iter()
            .map(|listener| self.enroller.serve(pod, listener, stop.clone()))
            .collect();
        let gauge = self.metrics.listeners.of(Delivery::Handoff).clone();
        let registration = Registration::new(namespace, witness, stop, served, gauge);
        self.registry.insert(pod.uid.clone(), registration);
        Ok(())
    }
}

/// Waits for a message and reads it without taking it: its descriptors stay in the kernel.
/// `None` if the peer hung up.
async fn first_message(socket: &Arc<OwnedFd>) -> Option<Zeroizing<Vec<u8>>> {
    let socket = watch(Arc::clone(socket)).ok()?;
    socket
        .async_io(Interest::READABLE, |socket| {
            // One byte more than allowed tells a message that is too long.
            let mut message = Zeroizing::new(vec![0; MAX_REQUEST_BYTES + 1]);
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            let (length, _) = rustix::net::recv(socket.as_fd(), message.as_mut_slice(), flags)?;
            message.truncate(length);
            Ok(message)
        })
        .await
        .ok()
        .filter(|message| !message.is_empty())
}

fn rejected(why: impl Into<String>) -> Answer {
    (Status::Rejected, why.into(), EnrolmentOutcome::Rejected)
}

fn busy(why: impl Into<String>) -> Answer {
    (Status::Busy, why.into(), EnrolmentOutcome::Busy)
}

fn explain(problem: RequestError) -> String {
    match problem {
        RequestError::NotARequest => "this is no enrolment request".to_owned(),
        RequestError::Version(version) => format!(
            "enrolment protocol {version} is not spoken here, only {VERSION}: use the              `caios-enroll` of this agent's release"
        ),
        RequestError::NoPort => "port 0 cannot be listened on".to_owned(),
        RequestError::NoToken => "there is no service account token".to_owned(),
        RequestError::TooLong => "the service account token is too long".to_owned(),
    }
}

/// Renders a reply, its message cut to fit.
fn packet(status: Status, message: &str) -> Vec<u8> {
    let end = message.floor_char_boundary(MAX_REPLY_BYTES - 1);
    let mut packet = vec![status as u8];
    packet.extend_from_slice(message.get(..end).unwrap_or_default().as_bytes());
    packet
}
