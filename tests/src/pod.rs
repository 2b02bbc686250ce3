//! A Pod: a network namespace, a service account token, and the environment that an injected
//! container has.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::Context as _;
use shared::contract;

use crate::http::{self, Answer};
use crate::namespace::Namespace;
use crate::{binaries, link};

/// What a Pod is called and where it is; its token says the same.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Namespace of the Pod and of its ServiceAccount.
    pub namespace: String,
    /// The ServiceAccount.
    pub service_account: String,
    /// The Pod's name.
    pub name: String,
    /// The Pod's uid.
    pub uid: String,
}

/// A Pod on a [`Node`](crate::node::Node).
#[derive(Debug)]
pub struct Pod {
    /// Who it is.
    pub identity: Identity,
    /// Its address, on `eth0`.
    pub address: Ipv4Addr,
    namespace: Namespace,
    directory: PathBuf,
    enroll_socket: PathBuf,
    s3_url: String,
}

impl Pod {
    /// Makes the Pod's namespaces and its `eth0`.
    pub(crate) fn new(
        node: &Namespace,
        identity: Identity,
        number: u8,
        place: &Path,
        enroll_socket: &Path,
        s3_port: u16,
    ) -> anyhow::Result<Self> {
        let directory = place.join(&identity.name);
        fs::create_dir_all(directory.join("home"))?;
        let (gateway, address) = (
            Ipv4Addr::new(10, 77, number, 1),
            Ipv4Addr::new(10, 77, number, 2),
        );
        let hosts = directory.join("hosts");
        let names = "s3.test data.s3.test";
        fs::write(
            &hosts,
            format!("127.0.0.1 localhost\n::1 localhost\n{gateway} {names}\n"),
        )?;
        let namespace = Namespace::new(&identity.name, Some(&hosts))?;
        link::connect(node, &namespace, &format!("pod{number}"), gateway, address)?;
        let (enroll_socket, s3_url) = (
            enroll_socket.to_owned(),
            format!("http://s3.test:{s3_port}"),
        );
        Ok(Self {
            identity,
            address,
            namespace,
            directory,
            enroll_socket,
            s3_url,
        })
    }

    /// Writes the token file as kubelet does: aside, then renamed; no newline.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_token(&self, token: &str) -> anyhow::Result<()> {
        let aside = self.directory.join("token.new");
        fs::write(&aside, token)?;
        fs::rename(aside, self.token_file()).context("failed to replace the token file")
    }

    /// The Pod with another `enroll.sock` than the node's: one of its own.
    #[must_use]
    pub fn with_enroll_socket(mut self, socket: PathBuf) -> Self {
        self.enroll_socket = socket;
        self
    }

    /// The token file.
    pub fn token_file(&self) -> PathBuf {
        self.directory.join("token")
    }

    /// The token, as a container of the Pod reads it.
    ///
    /// # Errors
    /// When there is none.
    pub fn token(&self) -> anyhow::Result<String> {
        fs::read_to_string(self.token_file()).context("failed to read the token file")
    }

    /// The Pod's namespaces.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Runs `caios-enroll` as the Pod's init container does.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn enroll(&self, deadline: &str) -> anyhow::Result<Output> {
        self.enroll_with(deadline, &[])
    }

    /// Runs `caios-enroll` with further flags.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn enroll_with(&self, deadline: &str, further: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.enroll_command(&binaries::enroll(), deadline);
        command.args(further);
        self.output(command)
    }

    /// The command that enrols this Pod, with any build of `caios-enroll`. It is to be run inside.
    pub fn enroll_command(&self, program: &Path, deadline: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--socket").arg(&self.enroll_socket);
        command.arg("--token-file").arg(self.token_file());
        command.args(["--deadline", deadline]);
        command
    }

    /// A command with the environment of an injected container, and no other.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let url = format!(
            "http://127.0.0.1:{}{}",
            contract::DEFAULT_PORT,
            contract::CREDENTIALS_PATH
        );
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.join("home"))
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
            .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", self.token_file())
            .env("AWS_REGION", "us-east-04a")
            .env("AWS_DEFAULT_REGION", "us-east-04a")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL_S3", &self.s3_url)
            .env("S3_BUCKET", "data")
            .env("S3_KEY", "object")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command inside the Pod and waits for its output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, mut command: Command) -> anyhow::Result<Output> {
        let shown = format!("{command:?}");
        self.namespace
            .call(move || command.output())
            .with_context(|| format!("failed to start {shown}"))
    }

    /// Asks for credentials as an SDK does, with the token of the token file.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn credentials(&self) -> anyhow::Result<Answer> {
        let token = self.token()?;
        self.ask(Some(&token))
    }

    /// Asks for credentials with any token.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn ask(&self, token: Option<&str>) -> anyhow::Result<Answer> {
        let token = token.map(str::to_owned);
        self.namespace.run(async move {
            http::get(
                Self::listener(),
                contract::CREDENTIALS_PATH,
                token.as_deref(),
            )
            .await
        })
    }

    /// Where the agent listens inside every Pod.
    pub const fn listener() -> SocketAddr {
        SocketAddr::new(
            std::net::IpAddr::V4(Ipv4Addr::LOCALHOST),
            contract::DEFAULT_PORT,
        )
    }

    /// Takes the Pod's `eth0` away, as a CNI plugin does when the Pod ends.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_interface(&self) -> anyhow::Result<()> {
        self.namespace.run(link::delete("eth0"))
    }
}
