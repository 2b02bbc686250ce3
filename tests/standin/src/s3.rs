//! An S3 server that verifies signatures against the minted keys, their expiry and the policy.

mod access;
mod auth;
mod host;
mod record;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use hyper::{Request, Response, body::Incoming};
use s3s::{Body, service::S3Service, service::S3ServiceBuilder};
use tokio_util::sync::CancellationToken;

pub(crate) use self::record::Records;
pub use self::record::{Addressing, S3Request};
use crate::{Options, api::reply, serve::Handler, standin::State};

/// Serves S3 and records every request.
pub(crate) struct S3Handler {
    state: Arc<State>,
    service: S3Service,
    host: host::Domains,
}

impl S3Handler {
    /// Makes a server over the files under `options.s3_root`.
    ///
    /// # Errors
    /// The directory cannot be made or opened.
    pub(crate) fn new(state: Arc<State>, options: &Options) -> Result<Self> {
        let root = &options.s3_root;
        std::fs::create_dir_all(root).with_context(|| format!("make {}", root.display()))?;
        let files = s3s_fs::FileSystem::new(root)
            .map_err(|error| anyhow::anyhow!("serve {} as S3: {error:?}", root.display()))?;
        let host = host::Domains(options.s3_domains.clone());
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(auth::MintedKeys(state.clone()));
        builder.set_access(access::PolicyAccess(state.clone()));
        builder.set_host(host.clone());
        Ok(Self {
            state,
            service: builder.build(),
            host,
        })
    }
}

impl Handler for S3Handler {
    async fn handle(&self, request: Request<Incoming>, _: CancellationToken) -> Response<Body> {
        let seen = S3Request::seen(&request, &self.host, &self.state.keys);
        let response = match self.service.call(request.map(Body::from)).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(?error, "S3 request failed");
                reply::status(500, "", None)
            }
        };
        self.state.s3.note(seen, response).await
    }
}

#[cfg(test)]
mod tests;
