//! One connection to a keeper, from its greeting to its end.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use keeper::packet::Packet;
use keeper::protocol::{MAX_PACKET_BYTES, Message, Role, VERSION, Verdict};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Link, Memory};
use crate::enrolment::{Adopted, Enroller};
use crate::packets::Packets;
use crate::workload::PodUid;

/// Between two snapshots, at least. What a crash within it loses is exchanged again.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(1);
/// How long a snapshot keeps off the next one, in times of what it took: on a node where it is large
/// and much changes, one core is never busy with that alone.
const SNAPSHOT_REST: u32 = 9;
/// How long the keeper may take for all that it holds.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);

/// How a conversation ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// This agent ends, and has said so.
    Done,
    /// The keeper belongs to another Pod.
    Elsewhere,
    /// The keeper belongs to the Pod that has taken this one's place.
    Superseded,
    /// It was never in order.
    Failed(io::Error),
    /// It was in order, and broke.
    Lost(io::Error),
}

pub(super) struct Conversation<'a, E: Enroller, M> {
    link: &'a Link<E, M>,
    socket: OwnedFd,
}

/// What the keeper held.
#[derive(Default)]
struct Held {
    listeners: Vec<(PodUid, Packet)>,
    /// Whose, and what; the newest last.
    snapshots: Vec<(String, OwnedFd)>,
    /// Where an agent before this one held connections that it was answering.
    unanswered: Vec<OwnedFd>,
}

impl<'a, E: Enroller, M: Memory> Conversation<'a, E, M> {
    pub(super) const fn new(link: &'a Link<E, M>, socket: OwnedFd) -> Self {
        Self { link, socket }
    }

    /// Talks until the keeper is gone or `stop`.
    pub(super) async fn run(self, stop: &CancellationToken) -> Ending {
        let Self { link, socket } = self;
        let line = match Packets::new(socket) {
            Ok(socket) => Line(socket),
            Err(error) => return Ending::Failed(error),
        };
        let held = match timeout(SYNC_TIMEOUT, link.greet(&line)).await {
            Ok(Ok(held)) => held,
            Ok(Err(ending)) => return ending,
            Err(_elapsed) => return Ending::Failed(io::ErrorKind::TimedOut.into()),
        };
        // Before any connection is taken: from then on this agent may die.
        let unanswered = link.intake.unanswered();
        if let Err(error) = line
            .send(&Message::Unanswered, &unanswered.far_ends())
            .await
        {
            return Ending::Failed(error);
        }
        link.take_over(held);
        match link.talk(&line, stop).await {
            Ok(()) => Ending::Done,
            Err(error) => Ending::Lost(error),
        }
    }
}

impl<E: Enroller, M: Memory> Link<E, M> {
    /// Says who this is, and takes in all that the keeper holds.
    async fn greet(&self, line: &Line) -> Result<Held, Ending> {
        let hello = Message::Hello {
            version: VERSION,
            role: Role::Agent,
            instance: &self.settings.instance,
        };
        line.send(&hello, &[]).await.map_err(Ending::Failed)?;
        let mut held = Held::default();
        loop {
            let mut packet = line.receive().await.map_err(Ending::Failed)?;
            match Message::decode(&packet.bytes)
                .map_err(malformed)
                .map_err(Ending::Failed)?
            {
                Message::Welcome { verdict, .. } => match verdict {
                    Verdict::Accepted => {}
                    Verdict::Elsewhere => return Err(Ending::Elsewhere),
                    Verdict::Superseded => return Err(Ending::Superseded),
                    Verdict::Version => {
                        let why = "the keeper speaks another version: update both containers";
                        return Err(Ending::Failed(io::Error::other(why)));
                    }
                },
                Message::Listener { key, .. } => {
                    let pod = pod(key);
                    held.listeners.push((pod, packet));
                }
                Message::Snapshot { instance } => {
                    let instance = instance.to_owned();
                    held.snapshots
                        .extend(packet.descriptors.pop().map(|memory| (instance, memory)));
                }
                Message::Unanswered => held.unanswered = packet.descriptors,
                Message::Superseded(superseded) => self.follow(superseded),
                Message::Complete => return Ok(held),
                _ => {}
            }
        }
    }

    /// Takes over what the keeper held, memory first: the first request that a listener brings must
    /// find it.
    fn take_over(&self, mut held: Held) {
        let is_first = !self.standing.is_synced();
        // What was last said counts most, and this agent's own word before that of others.
        held.snapshots
            .sort_by_key(|(instance, _)| *instance == self.settings.instance);
        let mut restores_gate = is_first;
        for (instance, memory) in held.snapshots.into_iter().rev() {
            // What this very process has saved it knows.
            if is_first || instance != self.settings.instance {
                self.restore(memory, restores_gate);
            }
            restores_gate = false;
        }
        // Later ones are this very process's own.
        if is_first {
            let taken = self.intake.unanswered().take_over(&held.unanswered);
            self.metrics.requests_taken_over.inc_by(taken);
        }
        let listeners = held.listeners.len();
        let mut known = HashSet::new();
        let mut to_tell = Vec::new();
        for (pod, packet) in held.listeners {
            match self.adopt(&pod, packet) {
                Told::Known => {
                    known.insert(pod);
                }
                Told::News => to_tell.push(pod),
            }
        }
        self.intake.unanswered().forget_left();
        // From here on every change is noted; whoever enrolled meanwhile is among the Pods below.
        let unkept = self.registry.unkept();
        unkept.link();
        let own = self.registry.pods().into_iter();
        for pod in own.filter(|pod| !known.contains(pod)).chain(to_tell) {
            unkept.note(&pod);
        }
        self.standing.sync();
        let pods = self.registry.len();
        tracing::info!(listeners, pods, "linked with the keeper");
    }

    async fn talk(&self, line: &Line, stop: &CancellationToken) -> io::Result<()> {
        line.send(&Message::Serving(true), &[]).await?;
        let unkept = self.registry.unkept();
        let (mut is_due, mut next) = (true, Instant::now());
        loop {
            tokio::select! {
                packet = line.receive() => self.hear(packet?)?,
                () = unkept.changed() => self.tell(line).await?,
                () = self.memory.changed(), if !is_due => is_due = true,
                () = sleep_until(next), if is_due => {
                    let begun = Instant::now();
                    self.send_memory(line).await?;
                    let rest = begun.elapsed() * SNAPSHOT_REST;
                    (is_due, next) = (false, Instant::now() + rest.max(SNAPSHOT_INTERVAL));
                }
                () = stop.cancelled() => {
                    self.tell(line).await?;
                    self.send_memory(line).await?;
                    if !self.standing.is_superseded() {
                        line.send(&Message::Leaving, &[]).await?;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Tells the keeper of every Pod that it does not know the state of.
    async fn tell(&self, line: &Line) -> io::Result<()> {
        let unkept = self.registry.unkept();
        while let Some(note) = unkept.next() {
            let key = note.pod.as_str().as_bytes();
            match self.registry.kept(&note.pod) {
                Some(kept) => {
                    let about = &kept.about;
                    let listeners: Vec<_> = kept.sockets.iter().map(|one| one.as_fd()).collect();
                    let message = Message::Listener { key, about };
                    line.send(&message, &listeners).await?;
                }
                None => line.send(&Message::Gone { key }, &[]).await?,
            }
            unkept.told(&note);
        }
        Ok(())
    }

    async fn send_memory(&self, line: &Line) -> io::Result<()> {
        let saved = match self.memory.save() {
            Ok(saved) => saved,
            Err(error) => {
                tracing::warn!(%error, "failed to save the memory for the next agent");
                return Ok(());
            }
        };
        let instance = &self.settings.instance;
        line.send(&Message::Snapshot { instance }, &[saved.memory.as_fd()])
            .await?;
        let identities = i64::try_from(saved.identities).unwrap_or(i64::MAX);
        self.metrics.kept_identities.set(identities);
        Ok(())
    }

    /// Takes in what the keeper says of other agents of the node.
    fn hear(&self, mut packet: Packet) -> io::Result<()> {
        match Message::decode(&packet.bytes).map_err(malformed)? {
            Message::Listener { key, .. } => {
                let pod = pod(key);
                if let Told::News = self.adopt(&pod, packet) {
                    self.registry.unkept().note(&pod);
                }
            }
            Message::Gone { key } => {
                let pod = pod(key);
                if self.registry.remove_told(&pod) {
                    self.memory.forget(&pod);
                }
            }
            Message::Snapshot { .. } => {
                if let Some(memory) = packet.descriptors.pop() {
                    self.restore(memory, false);
                }
            }
            Message::Superseded(superseded) => self.follow(superseded),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn follow(&self, superseded: bool) {
        if superseded != self.standing.is_superseded() {
            tracing::info!(
                superseded,
                "another agent of the node serves in this one's place"
            );
        }
        self.standing.supersede(superseded);
        self.memory.rest(superseded);
    }

    fn restore(&self, memory: OwnedFd, is_first: bool) {
        if let Err(error) = self.memory.restore(memory, is_first) {
            tracing::warn!(%error, "what another agent had in memory cannot be read; its credentials are exchanged again");
        }
    }

    fn adopt(&self, pod: &PodUid, packet: Packet) -> Told {
        let Packet { bytes, descriptors } = packet;
        let Ok(Message::Listener { about, .. }) = Message::decode(&bytes) else {
            return Told::Known;
        };
        match self.intake.adopt(about, descriptors) {
            Adopted::Served => {
                self.metrics.listeners_adopted.inc();
                tracing::debug!(pod_uid = %pod, "took a listener over");
                Told::Known
            }
            Adopted::Known => Told::Known,
            Adopted::Outdated => Told::News,
            Adopted::Ended => {
                tracing::info!(pod_uid = %pod, "a Pod has ended while its listener was kept");
                self.memory.forget(pod);
                Told::News
            }
            Adopted::Refused(why) => {
                tracing::warn!(pod_uid = %pod, why, "a kept listener cannot be served");
                Told::Known
            }
        }
    }
}

/// Whether the keeper is to be told something of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Known,
    News,
}

/// The connection.
struct Line(Packets);

impl Line {
    /// Waits for a packet.
    ///
    /// # Cancel safety
    /// Safe: a packet is taken only when it is returned.
    async fn receive(&self) -> io::Result<Packet> {
        self.0.receive(MAX_PACKET_BYTES).await
    }

    async fn send(&self, message: &Message<'_>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.send(&message.encode(), descriptors).await
    }
}

fn pod(key: &[u8]) -> PodUid {
    PodUid::new(&String::from_utf8_lossy(key))
}

fn malformed(malformed: keeper::protocol::Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed)
}
