//! `admin.sock`, for the agent's own user alone.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use shared::serve::{Connections, Counters, Limits, serve};
use tokio_util::sync::CancellationToken;

use super::PATH;
use super::reporter::Reporter;
use crate::exchange::Exchange;
use crate::published::PublishedSocket;

/// For the agent's own user: who may exec into its container.
const SOCKET_MODE: u32 = 0o600;
/// More people at once do not look at one node.
const CONNECTIONS: usize = 8;

/// The socket, published, with what answers on it.
pub struct StatusSocket<E: Exchange> {
    socket: PublishedSocket,
    reporter: Arc<Reporter<E>>,
}

impl<E: Exchange> StatusSocket<E> {
    /// Publishes the socket at `path`. Of two agents on a node the one that has come later answers.
    ///
    /// # Errors
    /// When the directory is missing or not writable.
    pub fn bind(path: &Path, reporter: Reporter<E>) -> io::Result<Self> {
        Ok(Self {
            socket: PublishedSocket::publish(path, SOCKET_MODE)?,
            reporter: Arc::new(reporter),
        })
    }

    /// Answers until `stop`.
    pub async fn run(self, counters: Counters, stop: CancellationToken) {
        let Self { socket, reporter } = self;
        let limits = Limits {
            per_listener: CONNECTIONS,
            ..Limits::default()
        };
        let connections = Connections::new(CONNECTIONS, counters);
        let service = move |request: Request<_>| {
            let reporter = Arc::clone(&reporter);
            async move { answer(&request, &reporter) }
        };
        serve(socket, limits, connections, service, stop).await;
    }
}

fn answer<B, E: Exchange>(request: &Request<B>, reporter: &Reporter<E>) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        let mut response = Response::new(Full::from("not found\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    match serde_json::to_vec(&reporter.report()) {
        Ok(document) => {
            let mut response = Response::new(Full::from(document));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Err(error) => {
            let mut response = Response::new(Full::from(format!("{error}\n")));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}
