//! Connects a Pod to its node's agent: hands the agent a listener in the Pod's network namespace,
//! waits for the answer, and ends. The process is the init container `caios-enroll`. Where a
//! container runtime cannot pass descriptors, `caios-enroll relay` carries the Pod's connections.
//!
//! Nothing here allocates or needs std: the whole program is a few system calls, and every Pod on
//! a node starts it once. Start with [`run`].

#![cfg_attr(not(any(test, feature = "std")), no_std)]

mod arguments;
mod attempt;
mod flags;
mod output;
mod relay;
mod token;

use core::ffi::CStr;

use rustix::event::{Timespec, poll};
use rustix::fd::BorrowedFd;
use shared::enrolment::Status;

use crate::arguments::Arguments;
use crate::attempt::{Absence, Attempt};
use crate::flags::Asked;
use crate::output::Escaped;
pub use crate::output::Streams;
use crate::token::Token;

/// How the process ends; `--help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The Pod is enrolled; or the relay was told to end.
    Done = 0,
    /// A flag or variable makes no sense (`EX_USAGE`).
    Usage = 64,
    /// The token cannot be read, is empty or too long (`EX_NOINPUT`).
    Token = 66,
    /// No agent until the deadline; or no relay where one was looked for (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// The Pod has no loopback listener to give, or another failure here (`EX_SOFTWARE`).
    Internal = 70,
    /// The agent rejected this Pod (`EX_NOPERM`).
    Rejected = 77,
    /// SIGTERM or SIGINT came first: the Pod is being deleted. As shells report a SIGTERM.
    Terminated = 143,
}

const FIRST_DELAY_MS: u32 = 100;
const MAX_DELAY_MS: u32 = 5_000;
/// An unchanged state is said again after this time, so that a log shows that it still waits.
const REPEAT_S: i64 = 10;

/// What the process has for its work.
#[derive(Debug)]
pub struct Process<'a> {
    /// Where text goes.
    pub streams: Streams<'a>,
    /// What a relay carries is kept here: [`MEMORY_BYTES`], or it carries fewer connections.
    pub memory: &'a mut [u8],
    /// Takes an eventfd that a SIGTERM or SIGINT is to be written to from then on, instead of
    /// ending the process.
    pub on_signal: fn(BorrowedFd<'_>),
}

/// The most memory that is used of a [`Process`], in bytes.
pub const MEMORY_BYTES: usize = relay::MEMORY_BYTES;

/// Does what `arguments` (without the program's name) and `environment` say: enrols this Pod, or
/// relays for it.
///
/// Blocks until that has ended. Writes to standard error only, but for `--help` and `--version`.
/// Never writes the token.
pub fn run<'a, A: Iterator<Item = &'a CStr> + Clone>(
    mut arguments: A,
    environment: impl Fn(&str) -> Option<&'a CStr>,
    process: Process<'a>,
) -> Exit {
    let all = arguments.clone();
    if arguments.next() == Some(c"relay") {
        return relay::run(arguments, environment, process);
    }
    let streams = process.streams;
    match arguments::parse(all, environment) {
        Ok((Asked::Help, _)) => streams.print(format_args!("{}", arguments::HELP)),
        Ok((Asked::Version, _)) => print_version(streams),
        Ok((Asked::Work, arguments)) => return enrol(&arguments, streams),
        Err(problem) => {
            streams.say(format_args!("{problem}; see --help"));
            return Exit::Usage;
        }
    }
    Exit::Done
}

fn print_version(streams: Streams<'_>) {
    streams.print(format_args!("caios-enroll {}\n", env!("CARGO_PKG_VERSION")));
}

fn enrol(arguments: &Arguments<'_>, streams: Streams<'_>) -> Exit {
    let token = match Token::read(arguments.token_file) {
        Ok(token) => token,
        Err(problem) => {
            let path = Escaped(arguments.token_file.to_bytes());
            streams.say(format_args!(
                "the service account token in `{path}` {problem}"
            ));
            return Exit::Token;
        }
    };
    let started = uptime_s();
    let mut delay_ms = FIRST_DELAY_MS;
    let mut said: Option<(Absence, i64)> = None;
    loop {
        let absence = match attempt::enrol(arguments, &token) {
            Attempt::Absent(absence) => absence,
            Attempt::Answered(Status::Busy, message) => {
                Absence::Busy(output::Excerpt::new(message.bytes()))
            }
            Attempt::Answered(status, message) => return told(status, message.bytes(), streams),
            Attempt::Failed(what, errno) => {
                streams.say(format_args!("failed to {what}: {}", output::Reason(errno)));
                return Exit::Internal;
            }
        };
        let now = uptime_s();
        let socket = Escaped(arguments.socket.to_bytes());
        if now - started >= arguments.deadline_s {
            let waited = now - started;
            streams.say(format_args!(
                "gave up after {waited} s: the node's agent does not enrol this Pod: `{socket}` \
                 {absence}; is its Pod running on this node?"
            ));
            return Exit::Unavailable;
        }
        if said.is_none_or(|(last, at)| last != absence || now - at >= REPEAT_S) {
            let left = arguments.deadline_s - (now - started);
            streams.say(format_args!(
                "waiting for the node's agent, at most {left} s more: `{socket}` {absence}"
            ));
            said = Some((absence, now));
        }
        sleep_ms(delay_ms);
        delay_ms = (delay_ms * 2).min(MAX_DELAY_MS);
    }
}

/// Says how the agent decided.
fn told(status: Status, message: &[u8], streams: Streams<'_>) -> Exit {
    let message = Escaped(message);
    match status {
        Status::Ready => streams.say(format_args!("enrolled; credentials are ready")),
        Status::Enrolled | Status::Busy => streams.say(format_args!(
            "enrolled; the first credentials are still being fetched"
        )),
        Status::RefusedByIssuer => streams.say(format_args!(
            "enrolled, but there are no credentials for this Pod: {message}"
        )),
        Status::Rejected => {
            streams.say(format_args!("the node's agent rejects this Pod: {message}"));
            return Exit::Rejected;
        }
    }
    Exit::Done
}

/// Seconds since boot. `clock_gettime` would need the vDSO, and with it libc's start code.
fn uptime_s() -> i64 {
    rustix::system::sysinfo().uptime
}

fn sleep_ms(ms: u32) {
    let time = Timespec {
        tv_sec: i64::from(ms / 1000),
        tv_nsec: i64::from(ms % 1000) * 1_000_000,
    };
    // A signal ends the sleep early, which costs one attempt more.
    let _ = poll(&mut [], Some(&time));
}
