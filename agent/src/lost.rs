//! Pods that have lost their listeners get new ones from [`reattach`](crate::reattach), over
//! `reattach.sock` in the private directory.
//!
//! Whoever can reach that socket is trusted no further than a Pod: what it hands over is examined like
//! any listener, and only for a Pod that the watch has found without one.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use prometheus::IntCounter;
use tokio_util::sync::CancellationToken;

use crate::door::Door;
use crate::enrolment::{Enroller, Intake};
use crate::packets::Packets;
use crate::reattach::message::{MAX_PACKET_BYTES, MAX_PODS, Message, Wanted};
use crate::watch::{LostPod, Unserved};

/// Only the agent's group gets this far, and `reattach`, which is in it.
const SOCKET_MODE: u32 = 0o660;

/// Publishes the socket at `path`.
///
/// # Errors
/// When the directory is missing or not writable, or the path is too long for a socket.
pub fn open(path: &Path) -> io::Result<Door> {
    Door::open(path, SOCKET_MODE)
}

/// Answers at `door`, one connection after the other, until `shutdown`; what fails there counts in
/// `accept_errors`. Never ends by itself.
pub async fn run<E: Enroller>(
    mut door: Door,
    unserved: Arc<Unserved>,
    intake: Intake<E>,
    accept_errors: IntCounter,
    shutdown: CancellationToken,
) {
    let forever = async {
        loop {
            let packets = door.next(&accept_errors, Packets::new).await;
            // Whoever hangs up asks again.
            let _ = talk(&packets, &unserved, &intake).await;
        }
    };
    shutdown.run_until_cancelled(forever).await;
}

async fn talk<E: Enroller>(
    packets: &Packets,
    unserved: &Unserved,
    intake: &Intake<E>,
) -> io::Result<()> {
    loop {
        let packet = packets.receive(MAX_PACKET_BYTES).await?;
        let answer = match Message::decode(&packet.bytes) {
            Some(Message::Ask) => Message::Lost(wanted(unserved.lost())),
            Some(Message::Found(uid)) => take(&uid, packet.descriptors, unserved, intake).await,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        packets.send(&answer.encode(), &[]).await?;
    }
}

fn wanted(lost: Vec<LostPod>) -> Vec<Wanted> {
    let wanted = lost.into_iter().take(MAX_PODS).map(|lost| Wanted {
        uid: lost.pod.uid.to_string(),
        addresses: lost.addresses,
        port: lost.port,
    });
    wanted.collect()
}

async fn take<E: Enroller>(
    uid: &str,
    listeners: Vec<OwnedFd>,
    unserved: &Unserved,
    intake: &Intake<E>,
) -> Message {
    let mut lost = unserved.lost().into_iter();
    let Some(lost) = lost.find(|lost| lost.pod.uid.as_str() == uid) else {
        return Message::Refused("no such Pod has lost its listener".to_owned());
    };
    match intake.reattach(&lost, listeners).await {
        Ok(()) => {
            tracing::info!(
                namespace = lost.pod.namespace,
                pod = lost.pod.name,
                pod_uid = %lost.pod.uid,
                "a Pod that had lost its listener has another one"
            );
            Message::Served
        }
        Err(why) => Message::Refused(why),
    }
}
