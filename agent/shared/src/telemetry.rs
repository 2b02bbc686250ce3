//! Logs and panics of a long-running server.

mod throttle;

use std::panic;

use clap::ValueEnum;
use prometheus::IntCounter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

pub use throttle::Throttle;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// A filter in the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// The form of a line.
    pub format: Format,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter makes no sense.
    #[error("`{filter}` is not a log filter such as `info` or `info,agent=debug`")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process logs already.
    #[error("failed to set up logging, which must be done once")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts to log to standard output the lines that the filter lets pass. The environment is not
/// read.
///
/// # Errors
/// [`Error::Filter`] where the filter cannot be parsed, [`Error::Twice`] where logging is set up.
pub fn init(log: &Log) -> Result<(), Error> {
    let parsed = parse(&log.filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(parsed);
    match log.format {
        Format::Json => lines.json().flatten_event(true).finish().try_init()?,
        Format::Text => lines.with_ansi(false).finish().try_init()?,
    }
    Ok(())
}

/// Checks a filter before there is anything to log.
///
/// # Errors
/// [`Error::Filter`] where it cannot be parsed.
pub fn check(filter: &str) -> Result<(), Error> {
    parse(filter).map(|_filter| ())
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(filter).map_err(|source| Error::Filter {
        filter: filter.to_owned(),
        source,
    })
}

/// Makes every panic one log line and one count, in place of the standard message.
///
/// A message put together at run time is withheld: it may hold what a Pod sent.
pub fn count_panics(panics: IntCounter) {
    panic::set_hook(Box::new(move |info| {
        panics.inc();
        let message = info
            .payload()
            .downcast_ref::<&'static str>()
            .copied()
            .unwrap_or("(withheld, it was formatted at run time)");
        let location = info.location().map(tracing::field::display);
        tracing::error!(location, reason = message, "a task panicked");
    }));
}
