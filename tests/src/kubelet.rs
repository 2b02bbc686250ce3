//! What a kubelet is to a CSI driver: its directories, and its calls over gRPC.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use agent::csi::message::{Empty, PublishRequest, UnpublishRequest};
use anyhow::{Context as _, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::json;
use shared::contract::CSI_DRIVER;
use tokio::net::UnixStream;

use crate::node::{AUDIENCE, NODE_NAME, Node};
use crate::program::Program;
use crate::{binaries, wait};

/// How long a driver may take to listen.
const START: Duration = Duration::from_secs(20);

/// The kubelet of a node.
pub struct Kubelet<'a> {
    node: &'a Node,
}

/// An error of a driver, as the kubelet puts it into an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The gRPC code, such as 7 for `PermissionDenied`.
    pub code: String,
    /// What it says.
    pub message: String,
}

impl<'a> Kubelet<'a> {
    /// Makes its directories.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new(node: &'a Node) -> anyhow::Result<Self> {
        let kubelet = Self { node };
        for name in ["pods", "plugins", "plugins_registry"] {
            fs::create_dir_all(kubelet.directory().join(name))?;
        }
        Ok(kubelet)
    }

    /// Its root directory.
    pub fn directory(&self) -> PathBuf {
        self.node.directory().join("kubelet")
    }

    /// What the driver writes.
    pub fn driver_log(&self) -> PathBuf {
        self.node.directory().join("csi.log")
    }

    /// The driver's socket for the kubelet.
    pub fn endpoint(&self) -> PathBuf {
        let plugins = self.directory().join("plugins");
        plugins.join(CSI_DRIVER).join("csi.sock")
    }

    /// Where the driver is found.
    pub fn registration(&self) -> PathBuf {
        let registry = self.directory().join("plugins_registry");
        registry.join(format!("{CSI_DRIVER}-reg.sock"))
    }

    /// Starts the driver and waits until it answers.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn driver(&self) -> anyhow::Result<Program> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.driver_log())?;
        let mut command = Command::new(binaries::agent());
        command.arg("csi").arg("--kubelet-directory");
        command.arg(self.directory()).arg("--private-directory");
        command.arg(self.node.private_directory());
        command.args(["--node-name", NODE_NAME, "--log", "trace"]);
        command.stdin(Stdio::null()).stderr(log.try_clone()?);
        let child = command.stdout(log).spawn()?;
        let driver = Program::new("CSI driver", child, &self.driver_log());
        wait::until("the driver answers", START, || self.probe().is_ok())
            .with_context(|| driver.log())?;
        Ok(driver)
    }

    /// Asks whether the driver is well.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn probe(&self) -> anyhow::Result<()> {
        let answer =
            self.call::<_, Empty>(&self.endpoint(), "/csi.v1.Identity/Probe", &Empty {})?;
        ensure!(answer.is_ok(), "{answer:?}");
        Ok(())
    }

    /// The directory of a Pod's volume, whose parent the kubelet makes.
    pub fn volume(&self, pod: &str) -> PathBuf {
        let volumes = self.directory().join("pods").join(pod).join("volumes");
        volumes.join("kubernetes.io~csi/caios-agent/mount")
    }

    /// The request to publish a Pod's volume, with its token.
    ///
    /// # Errors
    /// When the parent of the volume cannot be made.
    pub fn request(&self, pod: &str, token: &str) -> anyhow::Result<PublishRequest> {
        let volume = self.volume(pod);
        fs::create_dir_all(volume.parent().context("a volume has a parent")?)?;
        let tokens = json!({ AUDIENCE: { "token": token, "expirationTimestamp": "" } });
        let context = [
            ("csi.storage.k8s.io/ephemeral", "true".to_owned()),
            ("csi.storage.k8s.io/pod.uid", pod.to_owned()),
            (
                "csi.storage.k8s.io/serviceAccount.tokens",
                tokens.to_string(),
            ),
        ];
        Ok(PublishRequest {
            volume_id: format!("csi-{pod}"),
            target_path: volume.display().to_string(),
            volume_capability: None,
            readonly: true,
            secrets: [].into(),
            volume_context: context.map(|(key, value)| (key.to_owned(), value)).into(),
        })
    }

    /// Publishes a volume.
    ///
    /// # Errors
    /// When the driver does not answer at all.
    pub fn publish(&self, request: &PublishRequest) -> anyhow::Result<Result<(), Refused>> {
        let path = "/csi.v1.Node/NodePublishVolume";
        let answer = self.call::<_, Empty>(&self.endpoint(), path, request)?;
        Ok(answer.map(|_: Empty| ()))
    }

    /// Takes the volume of a Pod away.
    ///
    /// # Errors
    /// When the driver does not answer at all.
    pub fn unpublish(&self, pod: &str) -> anyhow::Result<Result<(), Refused>> {
        let request = UnpublishRequest {
            volume_id: format!("csi-{pod}"),
            target_path: self.volume(pod).display().to_string(),
        };
        let path = "/csi.v1.Node/NodeUnpublishVolume";
        let answer = self.call::<_, Empty>(&self.endpoint(), path, &request)?;
        Ok(answer.map(|_: Empty| ()))
    }

    /// Calls a method of a driver.
    ///
    /// # Errors
    /// When nobody answers, or not as gRPC does.
    pub fn call<Asked: Message, Answer: Message + Default>(
        &self,
        socket: &std::path::Path,
        path: &str,
        request: &Asked,
    ) -> anyhow::Result<Result<Answer, Refused>> {
        let body = request.encode_to_vec();
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(body.len())?);
        frame.extend_from_slice(&body);
        let request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(frame.freeze()))?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let (headers, body) = runtime.enable_all().build()?.block_on(async {
            let stream = TokioIo::new(UnixStream::connect(socket).await?);
            let handshake = http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), stream);
            let (mut sender, connection) = handshake.await?;
            let connection = tokio::spawn(connection);
            let response = sender.send_request(request).await?;
            let headers = response.headers().clone();
            let body = response.into_body().collect().await?;
            let trailers = body.trailers().cloned().unwrap_or(headers);
            connection.abort();
            anyhow::Ok((trailers, body.to_bytes()))
        })?;
        let said = |name: &str| {
            let value = headers.get(name).map(hyper::header::HeaderValue::as_bytes);
            String::from_utf8_lossy(value.unwrap_or_default()).replace("%20", " ")
        };
        let code = said("grpc-status");
        if code != "0" {
            let message = said("grpc-message")
                .replace("%22", "\"")
                .replace("%60", "`");
            return Ok(Err(Refused { code, message }));
        }
        let mut body = body;
        ensure!(body.len() >= 5, "an answer without a message");
        body.advance(5);
        Ok(Ok(Answer::decode(body)?))
    }
}
