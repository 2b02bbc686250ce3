//! `caios-agent reattach`: gives Pods whose listeners were lost new ones, so that they need not be
//! started anew.
//!
//! Listeners outlive the agent in the keeper, and the keeper in the agent; both must die at once for
//! Pods to lose theirs. Making a listener in the network namespace of a running Pod takes
//! `CAP_SYS_ADMIN`, which no other part has: so this is off unless an administrator turns it on, and a
//! process of its own that does nothing else. It sees no token and no key.

mod args;
pub(crate) mod message;
mod namespaces;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::SocketType;
use shared::socket::connect;
use shared::telemetry::Log;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

pub use args::ReattachArgs;

use self::message::{MAX_PACKET_BYTES, Message};
use self::namespaces::{Found, search};
use crate::packets::Packets;

/// An agent answers at once, or is about to end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings. Hold no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's socket.
    pub agent: PathBuf,
    /// Where the node's network namespaces are, one file for each.
    pub network_namespaces: PathBuf,
    /// How often the agent is asked.
    pub interval: Duration,
    /// What is logged, and how.
    pub log: Log,
}

/// Asks the agent again and again which Pods have lost their listeners, and brings it new ones, until
/// `shutdown`. What fails is logged and tried again.
pub async fn run(settings: Settings, shutdown: CancellationToken) {
    let forever = async {
        let mut ticks = interval(settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut has_failed = false;
        loop {
            ticks.tick().await;
            let result = look(&settings).await;
            if let Err(error) = &result
                && !has_failed
            {
                tracing::warn!(
                    %error,
                    agent = %settings.agent.display(),
                    namespaces = %settings.network_namespaces.display(),
                    "failed to look for Pods without a listener, trying again: this container needs \
                     CAP_SYS_ADMIN, the node's network namespaces and an agent in its Pod"
                );
            }
            has_failed = result.is_err();
        }
    };
    tracing::info!("looking for Pods without a listener");
    shutdown.run_until_cancelled(forever).await;
}

/// Looks once.
async fn look(settings: &Settings) -> io::Result<()> {
    let packets = Packets::new(connect(&settings.agent, SocketType::SEQPACKET)?)?;
    let Message::Lost(wanted) = ask(&packets, &Message::Ask, &[]).await? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    if wanted.is_empty() {
        return Ok(());
    }
    let directory = settings.network_namespaces.clone();
    let asked = wanted.len();
    let found = spawn_blocking(move || search(&directory, &wanted)).await??;
    tracing::debug!(
        asked,
        found = found.len(),
        "looked into the network namespaces"
    );
    for Found { uid, listeners } in found {
        let why = match listeners {
            Ok(listeners) => bring(&packets, &uid, listeners).await?,
            Err(error) => Some(error.to_string()),
        };
        match why {
            None => tracing::info!(pod_uid = uid, "a Pod has a listener again"),
            Some(why) => tracing::warn!(pod_uid = uid, why, "a Pod remains without a listener"),
        }
    }
    Ok(())
}

/// Hands listeners over; why they were refused, if they were.
async fn bring(
    packets: &Packets,
    uid: &str,
    listeners: Vec<OwnedFd>,
) -> io::Result<Option<String>> {
    let handed: Vec<_> = listeners.iter().map(|listener| listener.as_fd()).collect();
    match ask(packets, &Message::Found(uid.to_owned()), &handed).await? {
        Message::Served => Ok(None),
        Message::Refused(why) => Ok(Some(why)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn ask(
    packets: &Packets,
    question: &Message,
    handed: &[BorrowedFd<'_>],
) -> io::Result<Message> {
    packets.send(&question.encode(), handed).await?;
    let answer = timeout(ANSWER_TIMEOUT, packets.receive(MAX_PACKET_BYTES)).await??;
    Message::decode(&answer.bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
