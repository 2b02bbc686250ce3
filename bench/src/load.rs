//! The client that makes the load: one thread that turns without sleeping, so that what it measures
//! is the server and not its own waking up.
//!
//! [`Load::open`] sends at a rate, whatever becomes of the requests before: a request is late from the
//! moment it was due, also where a slow answer kept its connection (no coordinated omission).
//! [`Load::closed`] sends the next request as soon as the one before is answered: how much is possible.

mod connection;
mod pace;

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use shared::contract::CREDENTIALS_PATH;
use tests::namespace::Namespace;
use tokio::time::Instant;

use self::connection::Connection;
use self::pace::Pace;

/// The longest answer that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Latencies are kept to three digits, up to a minute.
const LONGEST_NANOSECONDS: u64 = 60_000_000_000;

/// What came of one turn of load.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Answers a second.
    pub rate: f64,
    /// From when a request was due to the last byte of its answer, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Outcome {
    fn new(latency: Histogram<u64>, took: Duration) -> Self {
        let answered = u32::try_from(latency.len()).unwrap_or(u32::MAX);
        Self {
            rate: f64::from(answered) / took.as_secs_f64(),
            latency,
        }
    }

    /// The latency in microseconds that this share of the requests does not exceed.
    pub fn microseconds(&self, share: f64) -> f64 {
        let value = self.latency.value_at_quantile(share);
        Duration::from_nanos(value).as_secs_f64() * 1e6
    }
}

/// Asks for credentials with `token`, on a connection that is kept.
pub fn request(token: &str) -> Vec<u8> {
    format!("GET {CREDENTIALS_PATH} HTTP/1.1\r\nAuthorization: {token}\r\n\r\n").into_bytes()
}

/// Where requests go to, and how.
pub struct Load<'a> {
    /// The Pods from inside of which they come, each by its own loopback.
    pub places: &'a [&'a Namespace],
    /// Where the server listens in each of them.
    pub address: SocketAddr,
    /// What is sent, from the first byte to the last; one for each place.
    pub requests: &'a [Vec<u8>],
    /// Connections to each listener.
    pub connections: usize,
}

impl Load<'_> {
    /// Sends `rate` requests a second, spread evenly over all connections, which are kept alive.
    ///
    /// # Errors
    /// When a connection fails or an answer is not a 200: nothing measured would mean anything.
    pub fn open(&self, rate: u32, time: Duration) -> anyhow::Result<Outcome> {
        let mut crowd = self.crowd()?;
        let pace = Pace::new(rate, crowd.connections.len());
        let total = pace.count(time);
        let start = Instant::now();
        let mut sent = 0;
        while crowd.answered() < total {
            let now = Instant::now();
            while sent < total && pace.due(sent) <= now - start {
                let due = start + pace.due(sent);
                crowd.ask(pace.connection(sent), due)?;
                sent += 1;
            }
            crowd.turn(|_| None)?;
            ensure!(
                now - start < time + PATIENCE,
                "{} of {total} requests were not answered within {PATIENCE:?}",
                total - crowd.answered()
            );
        }
        Ok(Outcome::new(crowd.latency, start.elapsed()))
    }

    /// Has one request on each connection at every moment, for `time`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn closed(&self, time: Duration) -> anyhow::Result<Outcome> {
        let mut crowd = self.crowd()?;
        let start = Instant::now();
        for number in 0..crowd.connections.len() {
            crowd.ask(number, start)?;
        }
        let end = start + time;
        let mut open = crowd.connections.len();
        while open > 0 {
            crowd.turn(|answered| {
                let goes_on = answered < end;
                open -= usize::from(!goes_on);
                goes_on.then_some(answered)
            })?;
            ensure!(
                Instant::now() < end + PATIENCE,
                "{open} requests were not answered within {PATIENCE:?}"
            );
        }
        Ok(Outcome::new(crowd.latency, start.elapsed()))
    }

    /// Makes one connection after the other to the first listener, with one request on each, for `time`.
    /// The connection is part of the latency.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn anew(&self, time: Duration) -> anyhow::Result<Outcome> {
        let (place, address) = (self.places.first().context("no Pod")?, self.address);
        let request = self.requests.first().context("no request")?.clone();
        place.call(move || {
            let mut latency = latency()?;
            let start = Instant::now();
            loop {
                let begun = Instant::now();
                if begun - start >= time {
                    return Ok(Outcome::new(latency, start.elapsed()));
                }
                let mut connection = Connection::open(address, request.clone())?;
                connection.ask(begun)?;
                while connection.advance()?.is_none() {
                    ensure!(
                        begun.elapsed() < PATIENCE,
                        "a request was not answered within {PATIENCE:?}"
                    );
                }
                record(&mut latency, begun.elapsed());
            }
        })
    }

    /// Opens all connections, each from inside of its Pod.
    fn crowd(&self) -> anyhow::Result<Crowd> {
        let (address, count) = (self.address, self.connections);
        let mut connections = Vec::with_capacity(self.places.len() * count);
        for (place, request) in self.places.iter().zip(self.requests) {
            let request = request.clone();
            let opened = place.call(move || {
                let opened = (0..count).map(|_| Connection::open(address, request.clone()));
                opened.collect::<anyhow::Result<Vec<_>>>()
            })?;
            connections.extend(opened);
        }
        Crowd::new(connections)
    }
}

/// All connections, and what they have measured.
struct Crowd {
    connections: Vec<Connection>,
    epoll: std::os::fd::OwnedFd,
    latency: Histogram<u64>,
}

impl Crowd {
    fn new(connections: Vec<Connection>) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, connection) in connections.iter().enumerate() {
            let data = epoll::EventData::new_u64(u64::try_from(number)?);
            epoll::add(&epoll, connection.as_fd(), data, epoll::EventFlags::IN)?;
        }
        Ok(Self {
            connections,
            epoll,
            latency: latency()?,
        })
    }

    fn ask(&mut self, number: usize, due: Instant) -> anyhow::Result<()> {
        let connection = self.connections.get_mut(number);
        connection.context("no such connection")?.ask(due)
    }

    /// Reads what has come, without waiting. `next` says of a connection that was just answered when
    /// its next request is due, if it has one.
    fn turn(&mut self, mut next: impl FnMut(Instant) -> Option<Instant>) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(256);
        let at_once = Timespec::default();
        let buffer = rustix::buffer::spare_capacity(&mut events);
        epoll::wait(&self.epoll, buffer, Some(&at_once))?;
        for event in events {
            let number = usize::try_from(event.data.u64())?;
            let connection = self.connections.get_mut(number);
            let connection = connection.context("no such connection")?;
            // Several may wait on one connection: the next is sent when the one before is answered.
            while let Some(due) = connection.advance()? {
                let now = Instant::now();
                if let Some(due) = next(now) {
                    connection.ask(due)?;
                }
                record(&mut self.latency, now - due);
            }
        }
        Ok(())
    }

    fn answered(&self) -> u64 {
        self.latency.len()
    }
}

fn latency() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST_NANOSECONDS, 3)?)
}

fn record(latency: &mut Histogram<u64>, took: Duration) {
    latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}
