//! The first process of the agent's container: starts the worker, which is `caios-agent run`, and
//! starts it again at once when it crashes. The kubelet would wait 10 s and more before it starts a
//! container again.
//!
//! It blocks, has one thread and no runtime, and holds no secret. What it does after an end is
//! decided in `policy`; a worker that it cannot keep alive is left to the kubelet.

mod policy;
mod signals;
mod worker;

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::time::Instant;

use self::policy::{End, Policy, Verdict};
use self::signals::{Event, Signals};
use self::worker::Worker;

/// How long the heir of a worker may take. It needs milliseconds.
const HEIR_TIMEOUT: Duration = Duration::from_secs(1);

/// The variable in which a worker finds how often it was started again. The supervisor sets it.
const RESTARTS_VARIABLE: &str = "CAIOS_AGENT_WORKER_RESTARTS";

/// Runs `caios-agent run` with `flags` until it ends for good, and returns the exit code to end with:
/// the worker's own, or 128 and the signal that ended it.
///
/// SIGTERM and SIGINT are passed on; after that the worker is not started again. Children that
/// others have left behind are reaped, as the first process of a container must.
///
/// # Errors
/// When the process cannot take over its signals or its children: it then has not started anything.
pub fn supervise(flags: &[OsString]) -> io::Result<u8> {
    let mut signals = Signals::take_over()?;
    let mut policy = Policy::default();
    let mut asked_to_end = false;
    loop {
        let started = Instant::now();
        let worker = Worker::start(flags, policy.restarts());
        let end = match &worker {
            Ok(worker) => loop {
                match signals.next()? {
                    Event::Child => {
                        if let Some(end) = worker::reap(Some(worker))? {
                            break end;
                        }
                    }
                    Event::Stop(signal) => {
                        asked_to_end = true;
                        worker.signal(signal);
                    }
                }
            },
            Err(error) => {
                tracing::error!(%error, "failed to start the worker");
                End::NotStarted
            }
        };
        let ended = Instant::now();
        let is_stopped = match &worker {
            Ok(worker) => heir_ended(&mut signals, worker)? == Rest::Stopped,
            Err(_) => false,
        };
        if asked_to_end {
            return Ok(end.code());
        }
        let verdict = policy.decide(started, ended, end);
        tell(verdict, end, started, ended, &policy);
        let Verdict::Restart { pause } = verdict else {
            return Ok(end.code());
        };
        if is_stopped {
            return Ok(0);
        }
        // Nothing is there to drain.
        if rest(&mut signals, ended + pause, || Ok(false))? == Rest::Stopped {
            return Ok(0);
        }
    }
}

/// Why a rest between two workers is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// There is nothing left to wait for.
    Over,
    /// The time is over.
    TooLong,
    /// Somebody asks for the end.
    Stopped,
}

/// Reaps what ends, until `is_over` or until then.
fn rest(
    signals: &mut Signals,
    until: Instant,
    is_over: impl Fn() -> io::Result<bool>,
) -> io::Result<Rest> {
    while !is_over()? {
        match signals.next_before(until)? {
            Some(Event::Child) => {
                worker::reap(None)?;
            }
            Some(Event::Stop(_)) => return Ok(Rest::Stopped),
            None => return Ok(Rest::TooLong),
        }
    }
    Ok(Rest::Over)
}

/// Waits until the heir of a worker that has ended has ended too. Until then it may find connections
/// for the next worker, and the keeper does not know that this one is gone.
fn heir_ended(signals: &mut Signals, worker: &Worker) -> io::Result<Rest> {
    let rested = rest(signals, Instant::now() + HEIR_TIMEOUT, || {
        worker.has_heir().map(|has_heir| !has_heir)
    })?;
    if rested == Rest::TooLong {
        tracing::warn!("the worker's heir takes long; it is not waited for");
    }
    Ok(rested)
}

/// One line for each end that is not the wanted one.
fn tell(verdict: Verdict, end: End, started: Instant, ended: Instant, policy: &Policy) {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let lived_ms = milliseconds(ended - started);
    let restarts = policy.restarts();
    match verdict {
        Verdict::Restart { pause } => {
            let pause_ms = milliseconds(pause);
            tracing::warn!(restarts, %end, lived_ms, pause_ms, "the worker crashed; another one starts");
        }
        Verdict::GiveUp(why) => {
            tracing::error!(restarts, %end, lived_ms, %why, "the worker crashes steadily; the kubelet has to start the container again");
        }
        Verdict::Done => tracing::info!(restarts, %end, lived_ms, "the worker ended"),
    }
}

/// How often this worker's predecessors in its container have crashed: 0 without a supervisor.
pub fn restarts() -> u64 {
    let told = std::env::var(RESTARTS_VARIABLE).ok();
    told.and_then(|told| told.parse().ok()).unwrap_or(0)
}

/// Lets a worker receive the signals that its supervisor has blocked. To be called when they are
/// handled: those that came before are then not lost, and end nothing before its time.
///
/// # Errors
/// When the kernel refuses.
pub fn unblock_signals() -> io::Result<()> {
    signals::unblock()
}

/// Lets the kernel end this worker with its supervisor. Without a supervisor nothing changes.
///
/// In a container the kernel does that anyway, because the supervisor is the first process of it.
///
/// # Errors
/// When the kernel refuses.
pub fn end_with_supervisor() -> io::Result<()> {
    if std::env::var_os(RESTARTS_VARIABLE).is_some() {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    Ok(())
}
