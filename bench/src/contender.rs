//! Servers that answer the same request with the same bytes, in the same Pods, each on a port of its own.
//!
//! All but the agent are this program, started anew with the listeners that the bench has made for it.

mod bare;
mod echo;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::io::{FdFlags, fcntl_setfd};
use shared::contract::DEFAULT_PORT;
use tests::namespace::Namespace;
use tests::pod::Pod;

pub(crate) use self::bare::connection;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The agent.
    Agent,
    /// A hyper service that gives everybody the same answer, with as many threads as the agent: what
    /// HTTP costs at least.
    Bare,
    /// An epoll loop that reads up to the end of a head and writes the answer: what the kernel costs.
    Echo,
}

impl Contender {
    /// All of them, in the order in which they take turns.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Bare, Self::Echo];

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Bare => "bare hyper",
            Self::Echo => "epoll echo",
        }
    }

    /// Where it listens, inside each Pod.
    pub fn address(self) -> SocketAddr {
        let mut address = Pod::listener();
        address.set_port(match self {
            Self::Agent => DEFAULT_PORT,
            Self::Bare => DEFAULT_PORT + 1,
            Self::Echo => DEFAULT_PORT + 2,
        });
        address
    }

    /// Starts it, with a listener in each of `places`, giving everybody `answer`: a whole answer, from
    /// the status line to the end of the body.
    ///
    /// # Errors
    /// For the agent, which the stage starts; and when it cannot be started.
    pub fn start(self, places: &[&Namespace], answer: &[u8]) -> anyhow::Result<Server> {
        let word = match self {
            Self::Agent => bail!("the agent is started by the stage"),
            Self::Bare => "bare",
            Self::Echo => "echo",
        };
        let address = self.address();
        let listeners = places
            .iter()
            .map(|place| place.call(move || TcpListener::bind(address)))
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("failed to listen at {address}"))?;
        for listener in &listeners {
            listener.set_nonblocking(true)?;
            fcntl_setfd(listener, FdFlags::empty())?;
        }
        let numbers: Vec<String> = listeners
            .iter()
            .map(|listener| listener.as_raw_fd().to_string())
            .collect();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", word, &numbers.join(",")]);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("stdin is piped")?;
        input.write_all(answer)?;
        Ok(Server(child))
    }
}

/// A running contender. Killed when dropped.
#[derive(Debug)]
pub struct Server(Child);

impl Server {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves what is on standard input as the contender `word`, on the listeners with these numbers,
/// until it is killed.
///
/// # Errors
/// When it cannot.
pub fn serve(word: &str, numbers: &str) -> anyhow::Result<()> {
    let mut answer = Vec::new();
    std::io::stdin().read_to_end(&mut answer)?;
    let listeners = numbers
        .split(',')
        .map(|number| Ok(inherited(number.parse()?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    match word {
        "bare" => bare::serve(listeners, &answer),
        "echo" => echo::serve(listeners, &answer),
        other => bail!("there is no contender `{other}`"),
    }
}

fn inherited(number: RawFd) -> TcpListener {
    #[expect(
        unsafe_code,
        reason = "the parent made the descriptor for this process and names it once"
    )]
    // SAFETY: open since the start of this process, and nobody else here owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    descriptor.into()
}
