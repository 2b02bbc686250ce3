//! A hyper server that gives everybody the same answer.

use std::net::TcpListener;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

/// As many threads as the agent has.
const THREADS: usize = 2;

/// Serves the body of `answer` until it is killed.
pub(super) fn serve(listeners: Vec<TcpListener>, answer: &[u8]) -> anyhow::Result<()> {
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let body = answer.get(head.context("the answer has no head")? + 4..);
    let body = Bytes::copy_from_slice(body.unwrap_or_default());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(THREADS).enable_all();
    runtime.build()?.block_on(async {
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let body = body.clone();
            accepting.spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    tokio::spawn(connection(stream, body.clone()));
                }
            });
        }
        while let Some(ended) = accepting.join_next().await {
            let ended: anyhow::Result<()> = ended?;
            ended?;
        }
        Ok(())
    })
}

/// Answers every request on `io` with `body`.
///
/// # Errors
/// What hyper says of the connection.
pub(crate) async fn connection<T>(io: T, body: Bytes) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |_: Request<Incoming>| {
        let mut response = Response::new(Full::new(body.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .await
}
