//! Finds the bucket in the `Host` header.

use s3s::{
    S3Result,
    host::{S3Host, VirtualHost},
};

/// Base domains under which `bucket.<domain>` is a bucket; any other host means path addressing.
#[derive(Clone)]
pub(super) struct Domains(pub(super) Vec<String>);

impl Domains {
    /// The bucket that `host` (with or without a port) names.
    pub(super) fn bucket<'a>(&self, host: &'a str) -> Option<&'a str> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        self.0
            .iter()
            .find_map(|domain| name.strip_suffix(domain.as_str())?.strip_suffix('.'))
            .filter(|bucket| !bucket.is_empty())
    }
}

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let parsed = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => parsed.with_bucket(bucket),
            None => parsed,
        })
    }
}
