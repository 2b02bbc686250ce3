//! gRPC over the driver's sockets: which method is whose.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use shared::serve::Accept as _;
use tokio::io::duplex;
use tokio::join;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use super::authority;
use super::driver::Driver;
use super::message::Empty;
use crate::published::PublishedSocket;

/// After a failed accept, which is mostly a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Calls of one connection at once. The kubelet makes a connection for each.
const MAX_CALLS: u32 = 64;

/// What is on its way between a connection and the server, in each direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// What the clients of a socket name as authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// A host.
    Host,
    /// The path of the socket, which is no authority.
    Path,
}

/// Answers whoever connects, until `stop`. Never ends by itself.
pub(super) async fn serve(
    mut socket: PublishedSocket,
    names: Names,
    driver: Arc<Driver>,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let driver = Arc::clone(&driver);
        let answer = service_fn(move |request| {
            let driver = Arc::clone(&driver);
            async move { Ok::<_, Infallible>(answer(&driver, request).await) }
        });
        let mut server = http2::Builder::new(TokioExecutor::new());
        server.max_concurrent_streams(MAX_CALLS);
        let answered = async move {
            match names {
                Names::Host => {
                    server
                        .serve_connection(TokioIo::new(connection), answer)
                        .await
                }
                Names::Path => {
                    let (near, far) = duplex(BUFFER_BYTES);
                    let answered = server.serve_connection(TokioIo::new(near), answer);
                    // Each ends with the other.
                    join!(answered, authority::carry(connection, far)).0
                }
            }
        };
        let stop = stop.clone();
        tokio::spawn(async move {
            let ended = stop.run_until_cancelled(answered).await;
            if let Some(Err(error)) = ended {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
}

async fn answer(driver: &Arc<Driver>, request: Request<Incoming>) -> Response<Body> {
    let driver = Arc::clone(driver);
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/csi.v1.Identity/GetPluginInfo" => {
            unary(request, async move |_: Empty| Ok(driver.plugin())).await
        }
        // Neither has a capability, and a driver that answers is ready.
        "/csi.v1.Identity/GetPluginCapabilities"
        | "/csi.v1.Identity/Probe"
        | "/csi.v1.Node/NodeGetCapabilities" => {
            unary(request, async move |_: Empty| Ok(Empty {})).await
        }
        "/csi.v1.Node/NodeGetInfo" => unary(request, async move |_: Empty| Ok(driver.node())).await,
        "/csi.v1.Node/NodePublishVolume" => {
            let publish = async move |asked| driver.publish(asked).await.map(|()| Empty {});
            unary(request, publish).await
        }
        "/csi.v1.Node/NodeUnpublishVolume" => {
            let unpublish = async move |asked| driver.unpublish(&asked).map(|()| Empty {});
            unary(request, unpublish).await
        }
        "/pluginregistration.Registration/GetInfo" => {
            unary(request, async move |_: Empty| Ok(driver.registered())).await
        }
        "/pluginregistration.Registration/NotifyRegistrationStatus" => {
            let note = async move |status| {
                Driver::note(&status);
                Ok(Empty {})
            };
            unary(request, note).await
        }
        _ => Status::unimplemented("this driver has no such method").into_http(),
    }
}

/// A method of one message that is answered by one message.
struct Unary<F>(Option<F>);

impl<F, Fut, Asked, Answer> UnaryService<Asked> for Unary<F>
where
    F: FnOnce(Asked) -> Fut,
    Fut: Future<Output = Result<Answer, Status>> + Send + 'static,
{
    type Response = Answer;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Answer>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Asked>) -> Self::Future {
        let answer = self.0.take().map(|answer| answer(request.into_inner()));
        Box::pin(async move {
            match answer {
                Some(answer) => answer.await.map(tonic::Response::new),
                None => Err(Status::internal("a call is answered once")),
            }
        })
    }
}

async fn unary<F, Fut, Asked, Answer>(request: Request<Incoming>, method: F) -> Response<Body>
where
    F: FnOnce(Asked) -> Fut,
    Fut: Future<Output = Result<Answer, Status>> + Send + 'static,
    Asked: prost::Message + Default + Send + 'static,
    Answer: prost::Message + Send + 'static,
{
    let mut grpc = Grpc::new(ProstCodec::<Answer, Asked>::default());
    grpc.unary(Unary(Some(method)), request).await
}
