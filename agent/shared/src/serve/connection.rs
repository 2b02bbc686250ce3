//! One connection, from its first byte to its close.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::progress::{Progress, Watched};
use super::{Limits, Place};

/// hyper panics on a smaller buffer.
const MIN_BUFFER_BYTES: usize = 8 * 1024;

/// An admitted connection.
pub(super) struct Connection {
    pub(super) place: Place,
    pub(super) limits: Arc<Limits>,
    pub(super) shutdown: CancellationToken,
}

impl Connection {
    /// Serves `io` until its client, a deadline or the drain ends it. How a client ends its
    /// connection is its own matter, so errors are traced alone.
    pub(super) async fn run<T, S, F>(self, io: T, service: S)
    where
        T: AsyncRead + AsyncWrite + Unpin,
        S: Fn(Request<Incoming>) -> F,
        F: Future<Output = Response<Full<Bytes>>>,
    {
        let Self {
            place,
            limits,
            shutdown,
        } = self;
        let progress = Arc::new(Progress::new(limits.head_timeout, limits.write_timeout));
        let watched = Watched {
            io,
            progress: Arc::clone(&progress),
        };
        let service = service_fn(|request: Request<Incoming>| {
            progress.work_begins(!request.body().is_end_stream());
            let answer = service(request);
            let (progress, place, limits) = (&progress, &place, &limits);
            let shutdown = &shutdown;
            async move {
                let mut response = answer.await;
                if shutdown.is_cancelled() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                progress.work_ends(if shutdown.is_cancelled() {
                    limits.drain_idle_timeout
                } else if place.crowded() {
                    limits.crowded_idle_timeout
                } else {
                    limits.idle_timeout
                });
                Ok::<_, Infallible>(response)
            }
        });
        // No timer: the deadlines below take the place of hyper's.
        let mut connection = pin!(
            http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size(limits.max_head_bytes.max(MIN_BUFFER_BYTES))
                .serve_connection(TokioIo::new(watched), service)
        );
        let mut timer = pin!(sleep_until(Instant::now() + limits.head_timeout));
        let mut asked_to_end = pin!(shutdown.cancelled());
        let mut draining = false;
        let ended = poll_fn(|cx| {
            // hyper would close an idle connection at once, and one that has sent nothing yet too:
            // under the hands of a client that is just sending. So the next answer says that it is
            // the last, and who asks nothing more is hung up on a little later.
            if !draining && asked_to_end.as_mut().poll(cx).is_ready() {
                draining = true;
                progress.hurry(limits.drain_idle_timeout);
            }
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            // Deadlines change only inside the poll above. The timer is moved when it would fire
            // too late; where it fires too early, it is set again: once per idle time, not once
            // per request.
            while let Some(deadline) = progress.deadline() {
                if timer.deadline() > deadline {
                    timer.as_mut().reset(deadline);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    break;
                }
                if deadline <= Instant::now() {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await;
        match ended {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::trace!(%error, "a connection failed"),
            None => tracing::trace!("a connection ran out of time"),
        }
    }
}
