//! Text for people: whole lines on standard error, nothing unescaped that others wrote.

use core::fmt::{self, Write};

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// A line longer than this is cut.
const LINE_BYTES: usize = 4096;

struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.bytes.iter_mut().skip(self.length);
        for (to, from) in free.zip(text.bytes()) {
            *to = from;
            self.length += 1;
        }
        Ok(())
    }
}

fn write(to: BorrowedFd<'_>, text: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; LINE_BYTES],
        length: 0,
    };
    let _ = line.write_fmt(text);
    let mut rest = line.bytes.get(..line.length).unwrap_or_default();
    while let Ok(written @ 1..) = rustix::io::write(to, rest) {
        rest = rest.get(written..).unwrap_or_default();
    }
}

/// Where text goes.
#[derive(Clone, Copy, Debug)]
pub struct Streams<'a> {
    /// For what was asked for: `--help`, `--version`.
    pub output: BorrowedFd<'a>,
    /// For all else.
    pub errors: BorrowedFd<'a>,
}

impl Streams<'_> {
    /// Writes one line to standard error.
    pub(crate) fn say(self, text: fmt::Arguments<'_>) {
        write(self.errors, format_args!("caios-enroll: {text}\n"));
    }

    /// Writes to standard output.
    pub(crate) fn print(self, text: fmt::Arguments<'_>) {
        write(self.output, text);
    }
}

/// Shows bytes that others wrote: control characters and what is not UTF-8 are escaped.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    f.write_char(character)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// The beginning of a message, kept by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    bytes: [u8; 256],
    length: usize,
}

impl Excerpt {
    pub(crate) fn new(message: &[u8]) -> Self {
        let mut bytes = [0; 256];
        let mut length = 0;
        for (to, from) in bytes.iter_mut().zip(message) {
            *to = *from;
            length += 1;
        }
        Self { bytes, length }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        Escaped(bytes).fmt(f)
    }
}

/// A system call's error, in words for those that a person can act on.
pub(crate) struct Reason(pub(crate) Errno);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Errno::NOENT => f.write_str("no such file"),
            Errno::ACCESS | Errno::PERM => f.write_str("permission denied"),
            Errno::ISDIR => f.write_str("it is a directory"),
            Errno::MFILE | Errno::NFILE => f.write_str("too many open files"),
            Errno::ADDRNOTAVAIL => f.write_str("the loopback interface has no such address"),
            other => write!(f, "error {}", other.raw_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_reaches_the_log_unescaped() {
        let shown = Escaped(b"no\n\x1b[31mway \xff\xc3\xa9").to_string();
        assert_eq!(shown, "no\\n\\u{1b}[31mway \\xff\u{e9}");
    }

    #[test]
    fn a_long_line_is_cut_and_does_not_overrun() {
        let mut line = Line {
            bytes: [0; LINE_BYTES],
            length: 0,
        };
        for _ in 0..LINE_BYTES {
            line.write_str("abc").expect("never fails");
        }
        assert_eq!(line.length, LINE_BYTES);
    }
}
