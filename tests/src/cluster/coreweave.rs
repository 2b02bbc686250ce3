//! What plays CoreWeave: the stand-in, on a machine of its own beside the node.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use standin::{Options, Part, Standin, TlsMode};

use crate::control_plane::{ControlPlane, ISSUER};
use crate::namespace::Namespace;

/// The organisation whose exchanges are accepted.
const ORGANISATION: &str = "my-org";
/// CoreWeave's API, as the chart has it by default.
const API: &str = "api.coreweave.com";
/// Where its S3 is: the cache in a cluster, and the service.
const S3: [&str; 2] = ["cwlota.com", "cwobject.com"];
/// What both need: to exchange, and to use S3.
const EVERYTHING: [&str; 2] = ["s3:*", "cwobject:CreateAccessKeyOIDC"];

/// CoreWeave's API and S3, at their real names.
pub struct CoreWeave {
    standin: Standin,
    machine: Arc<Namespace>,
    address: Ipv4Addr,
    /// Its certificate is of the second authority.
    is_replaced: AtomicBool,
}

impl CoreWeave {
    /// Starts it. One bucket `data` is there, with the object `object`; nothing is granted, no
    /// cluster is known.
    pub(super) fn start(cluster: &ControlPlane, directory: &Path) -> anyhow::Result<Self> {
        let buckets = directory.join("s3");
        fs::create_dir_all(buckets.join("data"))?;
        fs::write(buckets.join("data/object"), "what a workload reads\n")?;
        let machine = Arc::new(Namespace::new("coreweave", None)?);
        let address = cluster.connect(&machine)?;
        let everywhere = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let options = Options {
            api_listen: everywhere(443),
            s3_listen: everywhere(80),
            s3_domains: S3.map(str::to_owned).to_vec(),
            names: vec![API.to_owned()],
            org_id: ORGANISATION.to_owned(),
            ..Options::local(buckets)
        };
        let standin = machine
            .run(Standin::start(options))
            .context("failed to start the stand-in")?;
        Ok(Self {
            standin,
            machine,
            address,
            is_replaced: AtomicBool::new(false),
        })
    }

    /// The stand-in, to command and to ask.
    pub fn standin(&self) -> &Standin {
        &self.standin
    }

    /// What policies call a ServiceAccount of the cluster.
    pub fn principal(namespace: &str, service_account: &str) -> String {
        format!("role/{ISSUER}:system:serviceaccount:{namespace}:{service_account}")
    }

    /// Lets a ServiceAccount exchange, and do everything in S3, as step 4 of the tutorial does.
    pub fn grant(&self, namespace: &str, service_account: &str) {
        let principal = Self::principal(namespace, service_account);
        self.standin.grant(&principal, &EVERYTHING);
    }

    /// The subject of the tokens of `trainer` in a namespace.
    pub fn subject(namespace: &str) -> String {
        format!("system:serviceaccount:{namespace}:trainer")
    }

    /// How many exchanges of `trainer` in a namespace have reached the API.
    pub fn exchanges(&self, namespace: &str) -> usize {
        let subject = Self::subject(namespace);
        let calls = self.standin.calls().entries.into_iter();
        calls
            .filter(|call| call.identity.as_ref() == Some(&subject))
            .count()
    }

    /// Has the API show a certificate of another authority from now on, the first one's when it is
    /// called again; connections end. The authority, PEM.
    ///
    /// # Errors
    /// When the API's port is taken.
    pub fn replace_authority(&self) -> anyhow::Result<String> {
        let was_replaced = self.is_replaced.fetch_xor(true, Ordering::Relaxed);
        let (mode, authority) = if was_replaced {
            (TlsMode::Normal, self.standin.ca_pem())
        } else {
            (TlsMode::OtherCertificate, self.standin.other_ca_pem())
        };
        self.stop_api();
        self.standin.set_tls(mode);
        self.start_api()?;
        Ok(authority.to_owned())
    }

    /// Stops the API: connections to it are refused.
    pub fn stop_api(&self) {
        let standin = self.standin.clone();
        self.machine
            .run(async move { standin.stop(Part::Api).await });
    }

    /// Starts the API again.
    ///
    /// # Errors
    /// When its port is taken.
    pub fn start_api(&self) -> anyhow::Result<()> {
        let standin = self.standin.clone();
        self.machine
            .run(async move { standin.start_again(Part::Api).await })
    }

    /// What resolves to it.
    pub(super) fn names(&self) -> BTreeMap<String, Ipv4Addr> {
        let names = S3.iter().chain(&[API]);
        names
            .map(|name| ((*name).to_owned(), self.address))
            .collect()
    }
}
