//! A node: a network namespace with the stand-in in it, Pods beside it, and an agent on it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context as _;
use shared::contract;
use standin::{Options, Part, Standin, TokenSpec};
use tempfile::TempDir;

use crate::agent::{ADMIN, Agent};
use crate::control_plane::{self, ControlPlane};
use crate::namespace::Namespace;
use crate::pod::{Identity, Pod};

/// The name that tokens of the node's Pods carry.
pub const NODE_NAME: &str = "node-a";
/// The audience of the node's Pods.
pub const AUDIENCE: &str = "https://coreweave.example/iam";
/// What tells an agent that it runs in a cluster.
pub const IN_CLUSTER: [(&str, &str); 1] = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];

/// A node of its own for one test, with issuer, CoreWeave's API and S3 played by the stand-in.
pub struct Node {
    standin: Standin,
    namespace: Arc<Namespace>,
    directory: TempDir,
    pods: AtomicU8,
}

impl Node {
    /// Makes the node. One bucket `data` is there, with the object `object`.
    ///
    /// # Errors
    /// When the process may not make namespaces, or a part does not start.
    pub fn new() -> anyhow::Result<Self> {
        Self::with_hosts(None)
    }

    /// Makes the node of a cluster. CoreWeave knows the cluster's issuer, with [`AUDIENCE`].
    ///
    /// # Errors
    /// As [`new`](Self::new), or when the cluster does not answer.
    pub fn of(cluster: &ControlPlane) -> anyhow::Result<Self> {
        let node = Self::with_hosts(Some(&cluster.hosts()))?;
        cluster.connect(&node.namespace)?;
        let keys = cluster.get("/openid/v1/jwks")?.accepted()?.body.to_string();
        node.standin
            .federate(control_plane::ISSUER, AUDIENCE, &keys)?;
        Ok(node)
    }

    fn with_hosts(hosts: Option<&Path>) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("caios-").tempdir()?;
        let place = directory.path();
        for name in ["public", "pods", "s3/data"] {
            fs::create_dir_all(place.join(name))?;
        }
        fs::write(place.join("s3/data/object"), "what a workload reads\n")?;
        let namespace = Arc::new(Namespace::new("node", hosts)?);
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let options = Options {
            s3_listen: everywhere,
            audiences: vec![AUDIENCE.to_owned()],
            ..Options::local(place.join("s3"))
        };
        let standin = namespace
            .run(Standin::start(options))
            .context("failed to start the stand-in")?;
        fs::write(place.join("ca.pem"), standin.ca_pem())?;
        Ok(Self {
            standin,
            namespace,
            directory,
            pods: AtomicU8::new(0),
        })
    }

    /// The stand-in, to command and to ask.
    pub fn standin(&self) -> &Standin {
        &self.standin
    }

    /// The node's own namespaces.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// A directory of the test's own.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The directory that Pods may reach into.
    pub fn public_directory(&self) -> PathBuf {
        self.directory().join("public")
    }

    /// The directory for the agent's containers alone.
    pub fn private_directory(&self) -> PathBuf {
        self.directory().join("private")
    }

    /// What the agent writes.
    pub fn agent_log(&self) -> PathBuf {
        self.directory().join("agent.log")
    }

    /// The flags of an agent in a cluster, which has its own ServiceAccount in this directory: issuer
    /// and keys come from the API server. To be started with [`IN_CLUSTER`].
    pub fn cluster_arguments(&self, service_account: &Path) -> Vec<String> {
        let mut arguments = Vec::new();
        for pair in self.agent_arguments().chunks(2) {
            let elsewhere = ["--issuer", "--keys-from", "--issuer-ca-file"];
            if !pair.iter().any(|word| elsewhere.contains(&word.as_str())) {
                arguments.extend_from_slice(pair);
            }
        }
        let directory = service_account.display();
        arguments.push(format!("--service-account-directory={directory}"));
        arguments
    }

    /// The flags of an agent of this node.
    pub fn agent_arguments(&self) -> Vec<String> {
        let ca_file = self.directory().join("ca.pem");
        let arguments = [
            ("--org-id", self.standin.org_id().to_owned()),
            ("--api-url", self.standin.api_url()),
            ("--ca-file", ca_file.display().to_string()),
            ("--issuer", self.standin.issuer_url().to_owned()),
            ("--keys-from", "issuer".to_owned()),
            ("--issuer-ca-file", ca_file.display().to_string()),
            ("--audience", AUDIENCE.to_owned()),
            ("--node-name", NODE_NAME.to_owned()),
            (
                "--public-directory",
                self.public_directory().display().to_string(),
            ),
            (
                "--private-directory",
                self.private_directory().display().to_string(),
            ),
            ("--admin-listen", ADMIN.to_owned()),
        ];
        arguments
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }

    /// Starts an agent with further flags, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; the error shows its log.
    pub fn agent(&self, further: &[&str]) -> anyhow::Result<Agent> {
        let mut arguments = self.agent_arguments();
        arguments.extend(further.iter().map(|&argument| argument.to_owned()));
        self.spawn_agent(&arguments)?.ready()
    }

    /// Starts an agent with exactly these flags, and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_agent(&self, arguments: &[String]) -> anyhow::Result<Agent> {
        self.spawn_agent_with(arguments, &[])
    }

    /// Starts an agent with exactly these flags and further environment variables, and waits for
    /// nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_agent_with(
        &self,
        arguments: &[String],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Agent> {
        Agent::spawn(&self.namespace, arguments, variables, &self.agent_log())
    }

    /// Stops CoreWeave's API: connections to it are refused.
    pub fn stop_api(&self) {
        self.stop(Part::Api);
    }

    /// Stops a part of the stand-in: connections to it are refused.
    pub fn stop(&self, part: Part) {
        let standin = self.standin.clone();
        self.namespace.run(async move { standin.stop(part).await });
    }

    /// Starts CoreWeave's API again, on the same port.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start_api(&self) -> anyhow::Result<()> {
        let standin = self.standin.clone();
        self.namespace
            .run(async move { standin.start_again(Part::Api).await })
    }

    /// Adds a Pod, with its token in place. It may exchange, and do everything in S3.
    ///
    /// # Errors
    /// When its namespaces cannot be made.
    pub fn pod(&self, service_account: &str, name: &str) -> anyhow::Result<Pod> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed) + 1;
        let identity = Identity {
            namespace: "research".to_owned(),
            service_account: service_account.to_owned(),
            name: name.to_owned(),
            uid: format!("00000000-0000-4000-8000-{number:012}"),
        };
        self.standin.grant(
            &self.principal(&identity),
            &["cwobject:CreateAccessKeyOIDC", "s3:*"],
        );
        self.place(identity, number)
    }

    /// Makes a new sandbox of a Pod: the same Pod in new namespaces, as after a lost one.
    ///
    /// # Errors
    /// When its namespaces cannot be made.
    pub fn sandbox(&self, pod: &Pod) -> anyhow::Result<Pod> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed) + 1;
        self.place(pod.identity.clone(), number)
    }

    /// Adds a Pod of a cluster, with `token` in place. It may exchange, and do everything in S3.
    ///
    /// # Errors
    /// When its namespaces cannot be made.
    pub fn cluster_pod(&self, identity: Identity, token: &str) -> anyhow::Result<Pod> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed) + 1;
        let subject = format!("{}:{}", identity.namespace, identity.service_account);
        let issuer = control_plane::ISSUER;
        self.standin.grant(
            &format!("role/{issuer}:system:serviceaccount:{subject}"),
            &["cwobject:CreateAccessKeyOIDC", "s3:*"],
        );
        let pod = self.bare(identity, number)?;
        pod.put_token(token)?;
        Ok(pod)
    }

    fn place(&self, identity: Identity, number: u8) -> anyhow::Result<Pod> {
        let pod = self.bare(identity, number)?;
        pod.put_token(&self.mint(&self.token(&pod)))?;
        Ok(pod)
    }

    fn bare(&self, identity: Identity, number: u8) -> anyhow::Result<Pod> {
        Pod::new(
            &self.namespace,
            identity,
            number,
            &self.directory().join("pods"),
            &self.public_directory().join(contract::ENROLL_SOCKET),
            self.standin.addr(Part::S3).port(),
        )
    }

    /// Adds a Pod and enrols it with the agent that runs.
    ///
    /// # Errors
    /// When `caios-enroll` fails; the error shows what it printed.
    pub fn enrolled_pod(&self, service_account: &str, name: &str) -> anyhow::Result<Pod> {
        let pod = self.pod(service_account, name)?;
        let output = pod.enroll("30s")?;
        anyhow::ensure!(
            output.status.success(),
            "caios-enroll ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(pod)
    }

    /// Signs a token as the issuer does.
    ///
    /// # Panics
    /// When the token cannot be signed.
    pub fn mint(&self, spec: &TokenSpec) -> String {
        #[expect(
            clippy::expect_used,
            reason = "a token that cannot be signed is the test's failure"
        )]
        self.standin.token(spec).expect("the token is signed")
    }

    /// What the issuer puts into a token of this Pod; tests change it.
    pub fn token(&self, pod: &Pod) -> TokenSpec {
        let Identity {
            namespace,
            service_account,
            name,
            uid,
        } = &pod.identity;
        TokenSpec::new(namespace, service_account)
            .pod(name, uid)
            .node(NODE_NAME)
            .audience(AUDIENCE)
    }

    /// What policies call this identity.
    pub fn principal(&self, identity: &Identity) -> String {
        let Identity {
            namespace,
            service_account,
            ..
        } = identity;
        format!(
            "role/{}:system:serviceaccount:{namespace}:{service_account}",
            self.standin.issuer_url()
        )
    }
}
