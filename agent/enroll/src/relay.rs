//! Carries connections between the Pod's loopback interface and the agent's socket, for container
//! runtimes that cannot pass descriptors. The process is the native sidecar `caios-relay`.
//!
//! It reads no byte of what it carries and holds no token: it is the agent that answers.

mod agent;
mod arguments;
mod connection;
mod listeners;
mod pipe;

use core::ffi::CStr;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;

use self::agent::Agent;
use self::arguments::Arguments;
use self::connection::{Connection, Fate, Ready};
use self::listeners::{Listeners, accept, is_served};
use crate::flags::Asked;
use crate::output::Reason;
use crate::{Exit, Process, uptime_s};

/// Connections that are carried at once.
const SLOTS: usize = 64;
/// Bytes on their way in one direction of a connection. A request that is longer is carried too,
/// but cannot be asked again when the agent goes.
const PIPE_BYTES: usize = 8 * 1024;
/// What all connections need together.
pub(crate) const MEMORY_BYTES: usize = SLOTS * 2 * PIPE_BYTES;
/// Time for requests in flight after SIGTERM; the workload has ended by then.
const DRAIN_S: i64 = 5;
/// How often an absent agent is dialled.
const RETRY: Timespec = milliseconds(50);
/// How often connections that do nothing are looked at.
const TICK: Timespec = milliseconds(1_000);

const fn milliseconds(ms: i64) -> Timespec {
    Timespec {
        tv_sec: ms / 1000,
        tv_nsec: ms % 1000 * 1_000_000,
    }
}

/// Relays for this Pod until it is told to end, or checks that another process does. `arguments`
/// are those behind `relay`.
pub(crate) fn run<'a>(
    arguments: impl Iterator<Item = &'a CStr>,
    environment: impl Fn(&str) -> Option<&'a CStr>,
    process: Process<'a>,
) -> Exit {
    let streams = process.streams;
    match arguments::parse(arguments, environment) {
        Ok((Asked::Help, _)) => streams.print(format_args!("{}", arguments::HELP)),
        Ok((Asked::Version, _)) => crate::print_version(streams),
        Ok((Asked::Work, arguments)) if arguments.check => {
            if !is_served(arguments.port) {
                let port = arguments.port;
                streams.say(format_args!("nothing listens on 127.0.0.1:{port}"));
                return Exit::Unavailable;
            }
        }
        Ok((Asked::Work, arguments)) => match relay(&arguments, process) {
            Ok(()) => streams.say(format_args!("told to end")),
            Err((what, errno)) => {
                let port = arguments.port;
                let reason = Reason(errno);
                streams.say(format_args!("failed to {what}, port {port}: {reason}"));
                return Exit::Internal;
            }
        },
        Err(problem) => {
            streams.say(format_args!("{problem}; see relay --help"));
            return Exit::Usage;
        }
    }
    Exit::Done
}

/// Room for one connection.
struct Slot<'m> {
    up: &'m mut [u8],
    down: &'m mut [u8],
    connection: Option<Connection>,
}

fn relay(arguments: &Arguments<'_>, process: Process<'_>) -> Result<(), (&'static str, Errno)> {
    let Process {
        streams,
        memory,
        on_signal,
    } = process;
    let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| ("make a descriptor for signals", errno))?;
    on_signal(end.as_fd());
    let mut listeners = Some(
        Listeners::open(arguments.port, arguments.ipv6)
            .map_err(|errno| ("listen on 127.0.0.1", errno))?,
    );
    let port = arguments.port;
    streams.say(format_args!(
        "relaying 127.0.0.1:{port} to the node's agent"
    ));
    let mut agent = Agent::new(arguments.socket, streams);
    let mut memory = memory.chunks_exact_mut(PIPE_BYTES);
    let mut slots: [Slot<'_>; SLOTS] = core::array::from_fn(|_| Slot {
        up: memory.next().unwrap_or_default(),
        down: memory.next().unwrap_or_default(),
        connection: None,
    });
    let mut ends_s = None;
    let mut full = false;
    let mut now_s = uptime_s();
    loop {
        // A process that may not open more descriptors takes no connections for a while.
        let open = listeners.as_ref().filter(|_| !core::mem::take(&mut full));
        let seen = wait(&end, open, ends_s.is_some(), &slots, now_s);
        now_s = uptime_s();
        if ends_s.is_none() && seen.end {
            listeners = None;
            ends_s = Some(now_s + DRAIN_S);
        }
        for (slot, ready) in slots.iter_mut().zip(seen.ready) {
            let Some(connection) = &mut slot.connection else {
                continue;
            };
            let both = (&mut *slot.up, &mut *slot.down);
            let fate = connection.carry(both, ready, || agent.dial(now_s), now_s);
            let idle = ready.client.is_empty() && ready.agent.is_empty();
            let leaves = ends_s.is_some() && idle && connection.is_quiet();
            if fate == Fate::Done || leaves {
                slot.connection = None;
            }
        }
        let none = slots.iter().all(|slot| slot.connection.is_none());
        if ends_s.is_some_and(|ends_s| none || now_s >= ends_s) {
            return Ok(());
        }
        for listener in listeners.iter().flat_map(Listeners::all) {
            full |= take(listener, &mut slots, now_s).is_err();
        }
    }
}

/// What came of waiting.
struct Seen {
    end: bool,
    ready: [Ready; SLOTS],
}

/// Waits until something can be carried or taken, or time has passed that matters.
fn wait(
    end: &OwnedFd,
    listeners: Option<&Listeners>,
    ending: bool,
    slots: &[Slot<'_>; SLOTS],
    now_s: i64,
) -> Seen {
    const FIRST: usize = 3;
    // An entry without a use asks for nothing, of a descriptor that never fails or hangs up.
    let mut entries: [PollFd<'_>; FIRST + 2 * SLOTS] =
        core::array::from_fn(|_| PollFd::new(end, PollFlags::empty()));
    let [signal, v4, v6, rest @ ..] = &mut entries;
    let (mut room, mut soon, mut some) = (false, ending, ending || listeners.is_none());
    for (slot, pair) in slots.iter().zip(rest.chunks_exact_mut(2)) {
        let ([client, agent], Some(connection)) = (pair, &slot.connection) else {
            room = true;
            continue;
        };
        // What hangs up says so even to those who ask for nothing.
        let (descriptor, wanted) = connection.client(slot.up);
        if !wanted.is_empty() {
            *client = PollFd::from_borrowed_fd(descriptor, wanted);
        }
        if let Some((descriptor, wanted)) = connection.agent(slot.down)
            && !wanted.is_empty()
        {
            *agent = PollFd::from_borrowed_fd(descriptor, wanted);
        }
        some = true;
        soon |= connection.is_waiting();
        room |= connection.is_spare(now_s);
    }
    if !ending {
        *signal = PollFd::new(end, PollFlags::IN);
    }
    if let Some(listeners) = listeners.filter(|_| room) {
        for (entry, listener) in [v4, v6].into_iter().zip(listeners.all()) {
            *entry = PollFd::new(listener, PollFlags::IN);
        }
    }
    let timeout = if soon { RETRY } else { TICK };
    // A poll that fails has seen nothing, and the next one tries again.
    let polled = poll(&mut entries, (soon || some).then_some(&timeout));
    let happened = |index: usize| match (polled, entries.get(index)) {
        (Ok(_), Some(entry)) => entry.revents(),
        _ => PollFlags::empty(),
    };
    Seen {
        end: happened(0).contains(PollFlags::IN),
        ready: core::array::from_fn(|slot| Ready {
            client: happened(FIRST + 2 * slot),
            agent: happened(FIRST + 2 * slot + 1),
        }),
    }
}

/// Takes the connections that wait, as far as there is room: for want of an empty slot, that of a
/// connection between two requests.
///
/// # Errors
/// When the kernel gives no descriptor; the connection goes on waiting.
fn take(listener: &OwnedFd, slots: &mut [Slot<'_>; SLOTS], now_s: i64) -> Result<(), Errno> {
    loop {
        let spare = |slot: &Slot<'_>| slot.connection.as_ref().is_some_and(|c| c.is_spare(now_s));
        let empty = slots.iter().position(|slot| slot.connection.is_none());
        let Some(slot) = empty.or_else(|| slots.iter().position(spare)) else {
            return Ok(());
        };
        let client = match accept(listener) {
            Ok(client) => client,
            Err(Errno::AGAIN) => return Ok(()),
            // Gone before it was taken.
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(errno) => return Err(errno),
        };
        if let Some(slot) = slots.get_mut(slot) {
            slot.connection = Some(Connection::new(client, now_s));
        }
    }
}
