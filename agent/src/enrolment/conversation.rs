//! One connection: a message, an answer, closed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use shared::clock::Clock;
use shared::enrolment::{MAX_REQUEST_BYTES, Status, parse_request};
use shared::throttled;
use tokio::io::Interest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::about::About;
use super::answer::Answer;
use super::descriptor::{Cookie, Namespace};
use super::handed::discard;
use super::readiness::watch;
use super::registration::Registration;
use super::registry::Registry;
use super::served::Served;
use super::take::{Refusal, Taken, Wanted, take};
use super::turn::Enrolling;
use super::waiting::Place;
use super::{Enroller, PodListener, Settings};
use crate::error::Error;
use crate::metrics::{Delivery, EnrolmentOutcome, Metrics};
use crate::tenants::{Tenancy, Tenants};
use crate::unanswered::Unanswered;
use crate::workload::{PodUid, Workload};

/// A token may need the issuer's keys fetched first.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// Two re-owned listeners take two seconds at most.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The keeper is on the same node and does nothing else.
const KEEP_TIMEOUT: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared<E> {
    pub(super) settings: Settings,
    pub(super) enroller: E,
    pub(super) metrics: Metrics,
    pub(super) registry: Arc<Registry>,
    pub(super) own: Cookie,
    pub(super) clock: Clock,
    pub(super) unanswered: Arc<Unanswered>,
    /// Bounds the threads that examine descriptors.
    pub(super) examining: Arc<Semaphore>,
    /// Bounds the threads of plain accepts.
    pub(super) accepting: Arc<Semaphore>,
    /// Bounds the threads that close what peers sent, and the descriptors that they hold.
    pub(super) closing: Arc<Semaphore>,
}

impl<E: Enroller> Shared<E> {
    /// Serves one connection: a message, an answer, closed. On the socket of a Pod's own, `only` that
    /// Pod enrols. `permit` is given back after that.
    pub(super) async fn converse(
        self: Arc<Self>,
        socket: OwnedFd,
        place: Arc<Place>,
        only: Option<PodUid>,
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
            let answer = tokio::select! {
                answer = self.answer(&message, only.as_ref(), &socket) => answer,
                () = shutdown.cancelled() => Answer::busy("the node's agent is stopping"),
            };
            drop(message);
            self.metrics.enrolments.of(answer.outcome).inc();
            let elapsed = started.elapsed().as_secs_f64();
            self.metrics.enrolment_duration.observe(elapsed);
            self.log(&answer);
            // The one packet on this connection always fits into its buffer; a peer that never
            // reads holds nobody up.
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = rustix::net::send(&socket, &answer.packet(), flags);
        }
        let closing = Arc::clone(&self.closing).acquire_owned();
        let closing = shutdown.run_until_cancelled(closing).await;
        // The close would cut the reply off if the message was still unread.
        tokio::task::spawn_blocking(move || {
            discard(&socket);
            drop(socket);
            drop((closing, permit));
        });
    }

    /// Logs how an enrolment ended. The reason is quoted: a Pod can put line breaks into a token.
    fn log(&self, answer: &Answer) {
        let Answer { outcome, .. } = answer;
        let (pod_uid, reason) = (answer.pod.as_ref().map(PodUid::as_str), &answer.text);
        if matches!(answer.status, Status::Rejected | Status::Busy) {
            throttled!(
                &self.metrics.suppressed_log_lines,
                warn,
                pod_uid,
                ?outcome,
                ?reason,
                "a Pod was not enrolled"
            );
        } else {
            tracing::debug!(pod_uid, ?outcome, ?reason, "an enrolment ended");
        }
    }

    /// Decides on a request whose descriptors are still in the kernel.
    async fn answer(
        &self,
        message: &[u8],
        only: Option<&PodUid>,
        connection: &Arc<OwnedFd>,
    ) -> Answer {
        let request = match parse_request(message) {
            Ok(request) => request,
            Err(problem) => return Answer::to(problem),
        };
        let verified = timeout(VERIFY_TIMEOUT, self.enroller.verify(request.token)).await;
        let workload = match verified {
            Ok(Ok(workload)) => workload,
            Ok(Err(Error::Unavailable { reason, .. })) => return Answer::busy(reason),
            Ok(Err(error)) => {
                return Answer {
                    outcome: EnrolmentOutcome::Unauthenticated,
                    ..Answer::rejected(error.to_string())
                };
            }
            Err(_elapsed) => return Answer::busy("the token could not be verified in time"),
        };
        let pod = Some(workload.pod.uid.clone());
        if only.is_some_and(|only| *only != workload.pod.uid) {
            let why = "the token is that of another Pod than the one that this socket was made for";
            return Answer {
                outcome: EnrolmentOutcome::Unauthenticated,
                pod,
                ..Answer::rejected(why)
            };
        }
        let answer = self.decide(&workload, request.port, connection).await;
        Answer { pod, ..answer }
    }

    /// Decides on the request of a verified Pod.
    async fn decide(
        &self,
        workload: &Arc<Workload>,
        port: u16,
        connection: &Arc<OwnedFd>,
    ) -> Answer {
        let Some(turn) = self.registry.begin(&workload.pod.uid) else {
            return Answer::busy("another enrolment of this Pod is under way");
        };
        let outcome = match self.enrol(workload, port, connection, turn).await {
            Ok(outcome) => outcome,
            Err(Refusal::Rejected(why)) => return Answer::rejected(why),
            Err(Refusal::Busy(why)) => return Answer::busy(why),
        };
        let first = self.enroller.first_exchange(workload);
        let (status, text) = match timeout(self.settings.first_exchange_wait, first).await {
            Ok(Ok(())) => (Status::Ready, String::new()),
            Ok(Err(error @ Error::Forbidden(_))) => (Status::RefusedByIssuer, error.to_string()),
            Ok(Err(error)) => (Status::Enrolled, error.to_string()),
            Err(_elapsed) => (Status::Enrolled, String::new()),
        };
        Answer {
            status,
            text,
            outcome,
            pod: None,
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
                (take(&connection, &wanted, &turn), turn)
            })
            .await
            .map_err(|_panicked| late())
        };
        let (taken, _turn) = timeout(TAKE_TIMEOUT, examined)
            .await
            .map_err(|_elapsed| late())??;
        let (registration, outcome) = match taken? {
            Taken::Known => return Ok(EnrolmentOutcome::Known),
            Taken::Joins { served, namespace } => {
                let about = self.about(workload, port, &namespace);
                let registration = self.join(about, namespace.cookie, served);
                (registration, EnrolmentOutcome::Joined)
            }
            Taken::New {
                listeners,
                namespace,
                replaces,
            } => {
                let about = self.about(workload, port, &namespace);
                let registration = self.serve(about, namespace.cookie, listeners);
                let registration = registration.map_err(|error| {
                    Refusal::Busy(format!("failed to start serving the listener: {error}"))
                })?;
                let outcome = if replaces {
                    EnrolmentOutcome::Replaced
                } else {
                    EnrolmentOutcome::Enrolled
                };
                (registration, outcome)
            }
        };
        self.registry.insert(registration);
        let pod = &workload.pod;
        // A Pod that is told that it is enrolled must survive the agent's death.
        self.kept(&pod.uid).await;
        tracing::info!(
            namespace = pod.namespace,
            pod = pod.name,
            pod_uid = %pod.uid,
            replaces = outcome == EnrolmentOutcome::Replaced,
            "enrolled a Pod"
        );
        Ok(outcome)
    }

    /// Returns when the keeper has the listeners of `pod` too, or takes too long for that.
    pub(super) async fn kept(&self, pod: &PodUid) {
        let kept = self.registry.unkept().kept(pod);
        if timeout(KEEP_TIMEOUT, kept).await.is_err() {
            tracing::warn!(pod_uid = %pod, "the keeper does not take a listener");
        }
    }

    /// What is to be known of a Pod that enrols now.
    fn about(&self, workload: &Workload, port: u16, namespace: &Namespace) -> About {
        About {
            pod: workload.pod.clone(),
            port,
            mode: self.settings.mode,
            interfaces: namespace.interfaces.clone(),
            host_network: self.registry.is_in_the_nodes_network(&workload.pod.uid),
            since: self.clock.now(),
        }
    }

    /// Starts to serve listeners in the network namespace `cookie`.
    pub(super) fn serve(
        &self,
        about: About,
        cookie: Cookie,
        listeners: Vec<OwnedFd>,
    ) -> io::Result<Registration> {
        let sockets: Vec<_> = listeners.into_iter().map(Arc::new).collect();
        let ready = sockets
            .iter()
            .map(|socket| {
                let blocking = Arc::clone(&self.accepting);
                let unanswered = Arc::clone(&self.unanswered);
                PodListener::new(Arc::clone(socket), about.mode, blocking, unanswered)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (tenants, stop) = (Arc::new(Tenants::default()), CancellationToken::new());
        let tenancy = tenants.enter(about.pod.uid.clone());
        let tasks = ready.into_iter().map(|listener| {
            let tenants = Arc::clone(&tenants);
            self.enroller.serve(tenants, listener, stop.clone())
        });
        let tasks = tasks.collect();
        let gauge = self.metrics.listeners.of(Delivery::Handoff).clone();
        let served = Served::new(sockets, tenants, stop, tasks, gauge);
        Ok(self.register(about, cookie, Arc::new(served), tenancy))
    }

    /// Has listeners in the network namespace `cookie` serve one more Pod.
    pub(super) fn join(&self, about: About, cookie: Cookie, served: Arc<Served>) -> Registration {
        let tenancy = served.tenants().enter(about.pod.uid.clone());
        self.register(about, cookie, served, tenancy)
    }

    fn register(
        &self,
        about: About,
        cookie: Cookie,
        served: Arc<Served>,
        tenancy: Tenancy,
    ) -> Registration {
        let listed = self.enroller.list(&about.pod, &served.addresses());
        Registration::new(about, cookie, served, tenancy, listed)
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
