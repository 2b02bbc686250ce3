//! Reads a command line: flags, each with an environment variable that it wins over.

use core::ffi::CStr;
use core::fmt;

use crate::output::Escaped;

/// A flag of the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    /// The variable with its value; a flag without one takes no value.
    pub(crate) variable: Option<&'static str>,
}

impl Flag {
    pub(crate) const fn new(name: &'static str, variable: &'static str) -> Self {
        Self {
            name,
            variable: Some(variable),
        }
    }

    pub(crate) const fn switch(name: &'static str) -> Self {
        Self {
            name,
            variable: None,
        }
    }
}

/// What a command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Help,
    Version,
    /// The work itself, with all flags set.
    Work,
}

/// What is wrong with the command line or the environment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem<'a> {
    Unknown(&'a CStr),
    NoValue(&'static str),
    Value(&'static str, &'a CStr),
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => {
                write!(f, "unknown argument `{}`", Escaped(argument.to_bytes()))
            }
            Self::NoValue(flag) => write!(f, "`{flag}` needs a value"),
            Self::Value(name, value) => {
                write!(f, "`{name}` cannot be `{}`", Escaped(value.to_bytes()))
            }
        }
    }
}

/// Reads the environment, then the command line, which wins: `--flag value` and `--flag=value`.
/// `set` takes a flag's name and its value, which is empty for one without; `None` if that makes no
/// sense.
pub(crate) fn read<'a>(
    flags: &[Flag],
    mut arguments: impl Iterator<Item = &'a CStr>,
    environment: impl Fn(&str) -> Option<&'a CStr>,
    mut set: impl FnMut(&str, &'a CStr) -> Option<()>,
) -> Result<Asked, Problem<'a>> {
    for flag in flags {
        let Some(variable) = flag.variable else {
            continue;
        };
        if let Some(value) = environment(variable).filter(|value| !value.is_empty()) {
            set(flag.name, value).ok_or(Problem::Value(variable, value))?;
        }
    }
    while let Some(argument) = arguments.next() {
        match argument.to_bytes() {
            b"--help" | b"-h" => return Ok(Asked::Help),
            b"--version" | b"-V" => return Ok(Asked::Version),
            _ => {}
        }
        let (flag, attached) = split(flags, argument).ok_or(Problem::Unknown(argument))?;
        let value = match flag.variable {
            None if attached.is_none() => c"",
            None => return Err(Problem::Unknown(argument)),
            Some(_) => attached
                .or_else(|| arguments.next())
                .ok_or(Problem::NoValue(flag.name))?,
        };
        set(flag.name, value).ok_or(Problem::Value(flag.name, value))?;
    }
    Ok(Asked::Work)
}

/// Tells which flag an argument is, and the value behind its `=`.
fn split<'a>(flags: &[Flag], argument: &'a CStr) -> Option<(Flag, Option<&'a CStr>)> {
    flags.iter().find_map(|flag| {
        let rest = argument.to_bytes_with_nul();
        let rest = rest.strip_prefix(flag.name.as_bytes())?;
        match rest.split_first()? {
            (b'=', value) => Some((*flag, CStr::from_bytes_with_nul(value).ok())),
            (0, _) => Some((*flag, None)),
            _ => None,
        }
    })
}

/// `sun_path` has 108 bytes, one of them the NUL.
const MAX_SOCKET_BYTES: usize = 107;

/// Reads the path of a socket.
pub(crate) fn socket(value: &CStr) -> Option<&CStr> {
    (1..=MAX_SOCKET_BYTES)
        .contains(&value.count_bytes())
        .then_some(value)
}

/// Reads a port, which is not 0.
pub(crate) fn port(digits: &[u8]) -> Option<u16> {
    let port = u16::try_from(number(digits)?).ok()?;
    Some(port).filter(|port| *port != 0)
}

/// Reads whether to use IPv6 where there is any.
pub(crate) fn ipv6(value: &[u8]) -> Option<bool> {
    match value {
        b"auto" => Some(true),
        b"off" => Some(false),
        _ => None,
    }
}

/// Reads a whole number below 10^9.
pub(crate) fn number(digits: &[u8]) -> Option<u32> {
    if !(1..=9).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0u32, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        Some(value * 10 + digit)
    })
}
