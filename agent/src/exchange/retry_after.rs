//! How long an issuer asks to be left alone.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// The longest wait that is believed: a wrong clock or a slip must not keep a node without
/// credentials for longer.
const LONGEST: Duration = Duration::from_hours(1);

/// Reads a `Retry-After` header: whole seconds, or an HTTP date that is compared with `now`
/// (RFC 9110, section 10.2.3; its two obsolete date forms are not read). Between zero and one hour.
pub(super) fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // Only a number too large for 64 bits does not parse.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let at = DateTimeParser::new().parse_timestamp(value).ok()?;
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Option<u64> {
        let now = "1994-11-06T08:49:37Z".parse().unwrap();
        parse(value, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_read_and_bounded_by_one_hour() {
        assert_eq!(parsed("7"), Some(7));
        assert_eq!(parsed(" 0 "), Some(0));
        assert_eq!(parsed("86400"), Some(3600));
        assert_eq!(parsed("99999999999999999999999"), Some(3600));
        assert_eq!(parsed("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(parsed("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(parsed("Mon, 07 Nov 1994 08:49:37 GMT"), Some(3600));
    }

    #[test]
    fn anything_else_is_no_answer() {
        for value in ["", "-1", "1.5", "soon", "Sun, 99 Nov 1994"] {
            assert_eq!(parsed(value), None, "{value}");
        }
    }
}
