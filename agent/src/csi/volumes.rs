//! The volumes that are published, and the link to the agent that serves them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::SocketType;
use shared::socket::{File, connect};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use zeroize::Zeroizing;

use super::decide::Place;
use super::line::Line;
use super::place::{self, Sockets, Standing};
use super::protocol::{About, Message, Verdict};

/// Messages to the agent that may wait: as many as volumes that it serves.
const MAX_ORDERS: usize = 4096;
/// How long a call waits for an agent that is not there: long enough for one that is replaced.
const LINK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an agent may take for a volume; the kubelet waits 2 minutes. A Pod that waits for
/// credentials is answered within the agent's hold limit.
const TAKE_TIMEOUT: Duration = Duration::from_secs(80);
/// How long an agent may take for all that it holds.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries to reach the agent.
const RECONNECT: Duration = Duration::from_millis(200);
/// How often it is looked whether another agent has taken the place of the one that is linked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether the volumes are still there.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// A message that is to be sent, and descriptors with it.
pub(super) struct Order(Message, Vec<Arc<OwnedFd>>);

/// The published volumes, by their id.
pub(super) struct Volumes {
    pods: PathBuf,
    state: Mutex<State>,
    orders: mpsc::Sender<Order>,
    /// Which file the socket of the agent is that is linked and has all that is held here.
    linked: watch::Sender<Option<File>>,
}

#[derive(Default)]
struct State {
    held: HashMap<String, Held>,
    /// Those with a call under way.
    busy: HashSet<String>,
    /// Who waits for the agent's answer.
    asked: HashMap<String, oneshot::Sender<(Verdict, String)>>,
}

struct Held {
    about: About,
    sockets: Vec<Arc<OwnedFd>>,
}

/// A call's turn; others for the same volume are told to come again until this is dropped.
pub(super) struct Turn<'a>(&'a Volumes, String);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().busy.remove(&self.1);
    }
}

impl Volumes {
    pub(super) fn new(pods: PathBuf) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (orders, received) = mpsc::channel(MAX_ORDERS);
        let volumes = Self {
            pods,
            state: Mutex::default(),
            orders,
            linked: watch::Sender::new(None),
        };
        (Arc::new(volumes), received)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message when its turn comes; `false` where too many wait already, as while no agent
    /// is there. What is lost then is made good when the next one is linked.
    fn order(&self, message: Message, sockets: Vec<Arc<OwnedFd>>) -> bool {
        self.orders.try_send(Order(message, sockets)).is_ok()
    }

    /// Begins a call for a volume; `None` while there is another one.
    pub(super) fn begin(&self, volume: &str) -> Option<Turn<'_>> {
        let entered = self.lock().busy.insert(volume.to_owned());
        entered.then(|| Turn(self, volume.to_owned()))
    }

    /// Waits until the agent is linked.
    pub(super) async fn linked(&self) -> Result<(), Status> {
        let mut linked = self.linked.subscribe();
        match timeout(LINK_TIMEOUT, linked.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Status::unavailable(
                "this node's CAIOS agent does not answer: see whether its Pod is ready",
            )),
        }
    }

    /// Whether the agent that is found at `path` now has all that is held here.
    pub(super) fn handed_over(&self, path: &Path) -> bool {
        let linked = *self.linked.borrow();
        linked.is_some() && linked == File::at(path).ok()
    }

    /// Whether the volume is published there and its sockets are alive.
    pub(super) fn holds(&self, volume: &str, place: &Place) -> bool {
        let state = self.lock();
        let held = state.held.get(volume);
        held.is_some_and(|held| {
            held.about.place == *place
                && place::standing(&self.pods, place, held.about.file) == Standing::Ours
        })
    }

    /// Gives the agent a newer token of a volume's Pod.
    pub(super) fn refresh(&self, volume: &str, token: &[u8]) {
        let refresh = Message::Refresh {
            volume: volume.to_owned(),
            token: Zeroizing::new(token.to_vec()),
        };
        self.order(refresh, Vec::new());
    }

    /// Hands a volume to the agent; its answer.
    pub(super) async fn take(
        &self,
        volume: &str,
        about: About,
        sockets: Sockets,
        wait: bool,
        token: &[u8],
    ) -> Result<(Verdict, String), Status> {
        let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
        let (answer, answered) = oneshot::channel();
        self.lock().asked.insert(volume.to_owned(), answer);
        let take = Message::Take {
            volume: volume.to_owned(),
            about: about.clone(),
            wait,
            token: Zeroizing::new(token.to_vec()),
        };
        if !self.order(take, sockets.clone()) {
            // Nobody will answer.
            self.lock().asked.remove(volume);
        }
        let answered = timeout(TAKE_TIMEOUT, answered).await;
        self.lock().asked.remove(volume);
        match answered {
            Ok(Ok((Verdict::Taken, text))) => {
                let held = Held { about, sockets };
                self.lock().held.insert(volume.to_owned(), held);
                Ok((Verdict::Taken, text))
            }
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(Status::unavailable(
                "this node's CAIOS agent ended or did not answer meanwhile",
            )),
        }
    }

    /// Lets go of a volume whose Pod has ended.
    pub(super) fn ended(&self, volume: &str) {
        self.lock().held.remove(volume);
        self.gone(volume, true);
    }

    fn gone(&self, volume: &str, ended: bool) {
        let volume = volume.to_owned();
        self.order(Message::Gone { volume, ended }, Vec::new());
    }

    /// Keeps up the link to the agent at `path` until `stop`.
    pub(super) async fn link(
        self: Arc<Self>,
        path: PathBuf,
        mut orders: mpsc::Receiver<Order>,
        stop: CancellationToken,
    ) {
        let mut told = false;
        let linked = async {
            loop {
                let ended = self.talk(&path, &mut orders).await;
                let was_linked = self.linked.send_replace(None).is_some();
                self.lock().asked.clear();
                if let Err(error) = ended
                    && (was_linked || !told)
                {
                    told = true;
                    let path = path.display();
                    tracing::warn!(%path, %error, "the agent is away; trying again");
                }
                tokio::time::sleep(RECONNECT).await;
            }
        };
        stop.run_until_cancelled(linked).await;
    }

    /// One connection to the agent. Ends well where another agent has taken the path.
    async fn talk(&self, path: &Path, orders: &mut mpsc::Receiver<Order>) -> io::Result<()> {
        let file = File::at(path)?;
        let line = Line::new(connect(path, SocketType::SEQPACKET)?)?;
        // Those were for an agent that is gone; what still holds of them is told below.
        while orders.try_recv().is_ok() {}
        let synced = timeout(SYNC_TIMEOUT, self.sync(&line));
        let known = synced.await.map_err(io::Error::from).flatten()?;
        for Order(message, sockets) in self.unknown_to(&known) {
            line.send(&message, &sockets).await?;
        }
        self.linked.send_replace(Some(file));
        tracing::info!(volumes = self.lock().held.len(), "linked to the agent");
        let (mut looks, mut sweeps) = (interval(LOOK_INTERVAL), interval(SWEEP_INTERVAL));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = line.receive() => {
                    let (message, sockets) = received?;
                    self.hear(message, sockets);
                }
                Some(Order(message, sockets)) = orders.recv() => {
                    line.send(&message, &sockets).await?;
                }
                _ = looks.tick() => {
                    if File::at(path)? != file {
                        return Ok(());
                    }
                }
                _ = sweeps.tick() => self.sweep(),
            }
        }
    }

    /// Takes in what the agent holds; the ids of that.
    async fn sync(&self, line: &Line) -> io::Result<HashSet<String>> {
        line.send(&Message::Hello, &[]).await?;
        let mut known = HashSet::new();
        loop {
            match line.receive().await? {
                (Message::Complete, _) => return Ok(known),
                (message, sockets) => known.extend(self.hear(message, sockets)),
            }
        }
    }

    /// Takes in a message; the volume that the agent holds by it.
    fn hear(&self, message: Message, sockets: Vec<OwnedFd>) -> Option<String> {
        match message {
            Message::Hold { volume, about } => {
                match place::standing(&self.pods, &about.place, about.file) {
                    Standing::Ours => {
                        let sockets = sockets.into_iter().map(Arc::new).collect();
                        let held = Held { about, sockets };
                        self.lock().held.insert(volume.clone(), held);
                    }
                    // Removed while no driver was there to tell, or made anew by another one.
                    other => {
                        self.gone(&volume, other == Standing::Absent);
                        return None;
                    }
                }
                Some(volume)
            }
            Message::Answer {
                volume,
                verdict,
                text,
            } => {
                if let Some(asked) = self.lock().asked.remove(&volume) {
                    let _ = asked.send((verdict, text));
                }
                None
            }
            _ => None,
        }
    }

    /// What an agent that holds `known` must be told.
    fn unknown_to(&self, known: &HashSet<String>) -> Vec<Order> {
        let state = self.lock();
        let unknown = state.held.iter().filter(|(volume, held)| {
            let About { place, file } = &held.about;
            !known.contains(*volume) && place::standing(&self.pods, place, *file) == Standing::Ours
        });
        let order = |(volume, held): (&String, &Held)| {
            let hold = Message::Hold {
                volume: volume.clone(),
                about: held.about.clone(),
            };
            Order(hold, held.sockets.clone())
        };
        unknown.map(order).collect()
    }

    /// Lets go of volumes that are not there any more: another driver was told.
    fn sweep(&self) {
        let mut left = Vec::new();
        self.lock().held.retain(|volume, held| {
            let About { place, file } = &held.about;
            let standing = place::standing(&self.pods, place, *file);
            if standing != Standing::Ours {
                left.push((volume.clone(), standing == Standing::Absent));
            }
            standing == Standing::Ours
        });
        for (volume, ended) in left {
            self.gone(&volume, ended);
        }
    }
}
