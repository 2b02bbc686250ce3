//! The admin port of an agent or an injector.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::http::{self, Answer};
use crate::namespace::Namespace;

/// An admin port, asked from inside its network.
#[derive(Clone, Debug)]
pub struct Admin {
    network: Arc<Namespace>,
    address: SocketAddr,
}

impl Admin {
    /// The admin port at `address` inside `network`.
    pub fn new(network: &Arc<Namespace>, address: SocketAddr) -> Self {
        Self {
            network: Arc::clone(network),
            address,
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let (address, path) = (self.address, path.to_owned());
        self.network
            .run(async move { http::get(address, &path, None).await })
    }

    /// Whether `/readyz` says yes.
    pub fn ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|answer| answer.status == 200)
    }

    /// The value of one series, named as Prometheus shows it.
    ///
    /// # Errors
    /// When it does not answer or has no such series.
    pub fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let value = self.series(series)?;
        value
            .parse()
            .with_context(|| format!("`{series}` has the value `{value}`"))
    }

    /// The value of one series as text, named as Prometheus shows it.
    ///
    /// # Errors
    /// When it does not answer or has no such series.
    pub fn series(&self, series: &str) -> anyhow::Result<String> {
        let metrics = self.get("/metrics")?.body;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let Some(value) = line else {
            bail!("no series `{series}` in:\n{metrics}")
        };
        Ok(value.to_owned())
    }
}
