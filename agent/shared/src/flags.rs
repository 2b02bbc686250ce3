//! Flags that are checked together, so that one run reports everything that is wrong.

use std::convert::Infallible;
use std::fmt;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::ValueParser;
use url::Url;

use crate::telemetry::{self, Format, Log};

/// The exit code of a program whose flags make no sense, so that trying again would not help:
/// `EX_USAGE` of sysexits(3).
pub const USAGE: u8 = 64;

/// Prints what clap has to say in place of a parsed command line, and says how to exit: asking for
/// help is no mistake, but it comes this way too.
pub fn not_parsed(instead: &clap::Error) -> ExitCode {
    // Nobody is left to tell that it cannot be printed.
    let _ = instead.print();
    if instead.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// A flag's value as far as it can be read alone: the value, or the text and what is wrong with it.
///
/// clap stops at the first value that does not parse; with this it never has to.
#[derive(Clone, Debug)]
pub struct Flag<T>(Result<T, Unreadable>);

#[derive(Clone, Debug)]
struct Unreadable {
    given: String,
    reason: String,
}

fn parser<T, E>(parse: fn(&str) -> Result<T, E>) -> ValueParser
where
    T: Clone + Send + Sync + 'static,
    E: fmt::Display + 'static,
{
    ValueParser::from(move |given: &str| {
        let read = parse(given).map_err(|error| Unreadable {
            given: given.to_owned(),
            reason: error.to_string(),
        });
        Ok::<_, Infallible>(Flag(read))
    })
}

/// Reads a duration with its unit: `250ms`, `6h`, `1m 30s`.
pub fn duration() -> ValueParser {
    parser(humantime::parse_duration)
}

/// Reads a whole number.
pub fn count() -> ValueParser {
    parser(u64::from_str)
}

/// Reads what has a form of its own.
pub fn parsed<T>() -> ValueParser
where
    T: FromStr + Clone + Send + Sync + 'static,
    T::Err: fmt::Display + 'static,
{
    parser(T::from_str)
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, Default, thiserror::Error, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl Problems {
    /// Stands in for a URL that is missing or cannot be read, so that the check can go on. Never
    /// used.
    pub const NOWHERE: &str = "https://localhost";

    /// Adds a problem.
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Ends the check: what was built, unless anything is wrong.
    ///
    /// # Errors
    /// The problems, when there are any.
    pub fn or<T>(self, built: T) -> Result<T, Self> {
        if self.0.is_empty() {
            Ok(built)
        } else {
            Err(self)
        }
    }

    /// The duration that `flag` gives. Out of `range` or unreadable is a problem, and the start of
    /// the range stands in, so that the check can go on.
    pub fn duration(
        &mut self,
        flag: &str,
        value: &Flag<Duration>,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.within(flag, value, range, |duration| {
            humantime::format_duration(*duration).to_string()
        })
    }

    /// The number that `flag` gives, checked like [`duration`](Self::duration).
    pub fn count(&mut self, flag: &str, value: &Flag<u64>, range: RangeInclusive<u64>) -> usize {
        usize::try_from(self.within(flag, value, range, u64::to_string)).unwrap_or(usize::MAX)
    }

    /// The value that `flag` gives, with `fallback` standing in for what cannot be read.
    pub fn read<T: Clone>(&mut self, flag: &str, value: &Flag<T>, fallback: T) -> T {
        match &value.0 {
            Ok(value) => value.clone(),
            Err(Unreadable { given, reason }) => {
                self.add(format!("`{flag}` is `{given}`: {reason}"));
                fallback
            }
        }
    }

    /// The URL that `flag` gives: `https`, or `http`.
    pub fn url(&mut self, flag: &str, given: &str) -> Url {
        match Url::parse(given) {
            Ok(url) if matches!(url.scheme(), "https" | "http") => return url,
            Ok(_) => self.add(format!(
                "`{flag}` is `{given}`: must begin with https:// or http://"
            )),
            Err(error) => self.add(format!("`{flag}` is `{given}`: {error}")),
        }
        #[expect(clippy::expect_used, reason = "a constant that a test parses")]
        Url::parse(Self::NOWHERE).expect("the URL is valid")
    }

    /// What `--log` and `--log-format` give.
    pub fn log(&mut self, filter: &str, format: Format) -> Log {
        if let Err(error) = telemetry::check(filter) {
            self.add(format!("`--log` is `{filter}`: {error}"));
        }
        Log {
            filter: filter.to_owned(),
            format,
        }
    }

    /// Values that are given must say something: an environment variable may be set to nothing.
    pub fn not_empty<'a>(&mut self, flag: &str, given: impl IntoIterator<Item = &'a String>) {
        if given.into_iter().any(String::is_empty) {
            self.add(format!(
                "`{flag}` is empty: give it a value, or leave it out"
            ));
        }
    }

    fn within<T: Copy + PartialOrd>(
        &mut self,
        flag: &str,
        value: &Flag<T>,
        range: RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> T {
        let (least, most) = (*range.start(), *range.end());
        let value = self.read(flag, value, least);
        if range.contains(&value) {
            return value;
        }
        let (given, least_shown, most_shown) = (show(&value), show(&least), show(&most));
        self.add(format!(
            "`{flag}` is `{given}`: must be between {least_shown} and {most_shown}"
        ));
        least
    }
}
