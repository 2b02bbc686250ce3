//! Runs one stand-in until SIGTERM or SIGINT.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::json;
use standin::{Options, Part, Standin, control::Control};
use tokio::signal::unix::{SignalKind, signal};

/// Plays a cluster's issuer, CoreWeave's API and an S3 server.
#[derive(Parser)]
struct Flags {
    /// Where CoreWeave's API is served (TLS); port 0 takes any
    #[arg(long, default_value = "127.0.0.1:0")]
    api_listen: SocketAddr,
    /// Where S3 is served (plain HTTP)
    #[arg(long, default_value = "127.0.0.1:0")]
    s3_listen: SocketAddr,
    /// Where the issuer's discovery and keys are served
    #[arg(long, default_value = "127.0.0.1:0")]
    issuer_listen: SocketAddr,
    /// Serves the issuer over plain HTTP
    #[arg(long)]
    issuer_plain: bool,
    /// The issuer URL in tokens; derived from the listener by default
    #[arg(long)]
    issuer_url: Option<String>,
    /// Another audience to register for the issuer (repeatable)
    #[arg(long = "audience")]
    audiences: Vec<String>,
    /// Directory for buckets and the CA certificate (`ca.pem`)
    #[arg(long)]
    data: PathBuf,
    /// Base domain of virtual-host addressing (repeatable)
    #[arg(long = "s3-domain", default_value = "s3.test")]
    s3_domains: Vec<String>,
    /// Another name in the certificate (repeatable)
    #[arg(long = "name")]
    names: Vec<String>,
    /// The organisation whose exchanges are accepted
    #[arg(long, default_value = "org-test")]
    org_id: String,
    /// Unix socket of the control API
    #[arg(long)]
    control: Option<PathBuf>,
    /// TCP address of the control API
    #[arg(long)]
    control_tcp: Option<SocketAddr>,
    /// Written once everything is served: JSON with all addresses
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let flags = Flags::parse();
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let standin = Standin::start(Options {
        api_listen: flags.api_listen,
        s3_listen: flags.s3_listen,
        issuer_listen: flags.issuer_listen,
        issuer_tls: !flags.issuer_plain,
        s3_root: flags.data.join("s3"),
        s3_domains: flags.s3_domains,
        names: flags.names,
        issuer_url: flags.issuer_url,
        org_id: flags.org_id,
        audiences: flags.audiences,
    })
    .await?;
    let ca_file = flags.data.join("ca.pem");
    std::fs::write(&ca_file, standin.ca_pem())
        .with_context(|| format!("write {}", ca_file.display()))?;
    let _unix = match &flags.control {
        Some(path) => Some(Control::unix(standin.clone(), path)?),
        None => None,
    };
    let tcp = match flags.control_tcp {
        Some(addr) => Some(Control::tcp(standin.clone(), addr).await?),
        None => None,
    };
    if let Some(path) = &flags.ready_file {
        let ready = json!({
            "api": standin.addr(Part::Api), "s3": standin.addr(Part::S3),
            "issuer": standin.addr(Part::Issuer), "issuer_url": standin.issuer_url(),
            "org_id": standin.org_id(), "ca_file": ca_file,
            "control": flags.control, "control_tcp": tcp.as_ref().and_then(Control::addr),
        });
        // Renamed into place, so a reader never sees half of it.
        let aside = path.with_extension("tmp");
        std::fs::write(&aside, ready.to_string())
            .with_context(|| format!("write {}", aside.display()))?;
        std::fs::rename(&aside, path).with_context(|| format!("write {}", path.display()))?;
    }
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    standin.shutdown().await;
    Ok(())
}
