//! The service account token: read once, never shown, wiped.

use core::ffi::CStr;
use core::fmt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use shared::contract::MAX_TOKEN_BYTES;
use zeroize::Zeroize;

use crate::output::Reason;

/// A token's bytes, wiped on drop.
pub(crate) struct Token {
    bytes: [u8; MAX_TOKEN_BYTES],
    length: usize,
}

/// Why there is no token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Unreadable(Errno),
    Empty,
    TooLong,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(errno) => write!(f, "cannot be read: {}", Reason(*errno)),
            Self::Empty => f.write_str("is empty"),
            Self::TooLong => write!(f, "is longer than {MAX_TOKEN_BYTES} bytes"),
        }
    }
}

impl Token {
    /// Reads the token in the file at `path`, without white space at its end.
    pub(crate) fn read(path: &CStr) -> Result<Self, Problem> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(Problem::Unreadable)?;
        let mut token = Self {
            bytes: [0; MAX_TOKEN_BYTES],
            length: 0,
        };
        loop {
            let free = token.bytes.get_mut(token.length..).unwrap_or_default();
            if free.is_empty() {
                break;
            }
            match rustix::io::read(&file, free) {
                Ok(0) => break,
                Ok(read) => token.length += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Problem::Unreadable(errno)),
            }
        }
        if token.length == MAX_TOKEN_BYTES && rustix::io::read(&file, &mut [0u8; 1]) != Ok(0) {
            return Err(Problem::TooLong);
        }
        token.length = token.bytes().trim_ascii_end().len();
        if token.length == 0 {
            return Err(Problem::Empty);
        }
        Ok(token)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}
