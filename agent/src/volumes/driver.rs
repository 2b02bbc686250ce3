//! One driver that is connected: what it says, and what it is told.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use tokio::sync::mpsc;

use super::{Host, Volumes};
use crate::csi::Line;
use crate::csi::protocol::{About, Message, Verdict};
use crate::metrics::PublishOutcome;

/// Messages to one driver that may wait.
const MAX_ORDERS: usize = 1024;

/// A message to a driver, and descriptors with it.
pub(super) struct Order(Message, Vec<Arc<OwnedFd>>);

impl<H: Host> Volumes<H> {
    /// Talks with a driver until it hangs up.
    pub(super) async fn talk(self: Arc<Self>, line: Arc<Line>) -> io::Result<()> {
        let (orders, mut ordered) = mpsc::channel(MAX_ORDERS);
        if !matches!(line.receive().await?, (Message::Hello, _)) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // From here on it is told what changes; what it is told twice does no harm.
        let driver = self.enter(orders.clone());
        let _left = Left(&self, driver);
        for Order(message, sockets) in self.held() {
            line.send(&message, &sockets).await?;
        }
        line.send(&Message::Complete, &[]).await?;
        loop {
            tokio::select! {
                received = line.receive() => {
                    let (message, sockets) = received?;
                    self.hear(message, sockets, driver, &orders);
                }
                Some(Order(message, sockets)) = ordered.recv() => {
                    line.send(&message, &sockets).await?;
                }
            }
        }
    }

    fn enter(&self, orders: mpsc::Sender<Order>) -> u64 {
        let mut state = self.lock();
        state.connections += 1;
        let driver = state.connections;
        state.drivers.insert(driver, orders);
        driver
    }

    fn held(&self) -> Vec<Order> {
        let state = self.lock();
        let volumes = state.volumes.iter();
        volumes
            .map(|(id, volume)| hold(id, &volume.about, &volume.sockets))
            .collect()
    }

    fn hear(
        self: &Arc<Self>,
        message: Message,
        sockets: Vec<OwnedFd>,
        driver: u64,
        orders: &mpsc::Sender<Order>,
    ) {
        match message {
            Message::Take {
                volume,
                about,
                wait,
                token,
            } => {
                let (volumes, orders) = (Arc::clone(self), orders.clone());
                tokio::spawn(async move {
                    let taken = volumes.take(&volume, about, sockets, driver, wait, &token);
                    let (verdict, text) = match taken.await {
                        Ok(()) => (Verdict::Taken, String::new()),
                        Err((verdict, text)) => (verdict, text),
                    };
                    let outcome = match verdict {
                        Verdict::Taken => PublishOutcome::Taken,
                        Verdict::Refused => PublishOutcome::Refused,
                        Verdict::Busy => PublishOutcome::Busy,
                    };
                    volumes.metrics.csi_publishes.of(outcome).inc();
                    let answer = Message::Answer {
                        volume,
                        verdict,
                        text,
                    };
                    let _ = orders.send(Order(answer, Vec::new())).await;
                });
            }
            Message::Hold { volume, about } => {
                let known = {
                    let state = self.lock();
                    let known = state.volumes.get(&volume);
                    known.is_some_and(|known| known.about == about)
                };
                if known {
                    return;
                }
                if let Err((_, reason)) = self.host(&volume, about, sockets, driver) {
                    tracing::warn!(reason, "a volume that was published is not served");
                }
            }
            Message::Refresh { volume, token } => {
                let volumes = Arc::clone(self);
                tokio::spawn(async move {
                    let pod = {
                        let state = volumes.lock();
                        state.volumes.get(&volume).map(|it| it.about.pod())
                    };
                    // A token that is not good yet is shown again in a minute.
                    if let Some(pod) = pod
                        && let Ok(workload) = volumes.verify(&pod, &token).await
                    {
                        let _ = volumes.host.first_exchange(&workload).await;
                    }
                });
            }
            Message::Gone { volume, ended } => self.forget(&volume, ended),
            _ => {}
        }
    }
}

/// Takes a driver out when its connection has ended.
struct Left<'a, H>(&'a Volumes<H>, u64);

impl<H> Drop for Left<'_, H> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.drivers.remove(&self.1);
    }
}

pub(super) fn hold(id: &str, about: &About, sockets: &[Arc<OwnedFd>]) -> Order {
    let hold = Message::Hold {
        volume: id.to_owned(),
        about: about.clone(),
    };
    Order(hold, sockets.to_vec())
}
