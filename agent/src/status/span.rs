//! Spans of time for people: the two largest units.

use jiff::Timestamp;

/// The time from `from` to `to`, such as `2h 5m`; `0s` where `to` is earlier.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, unit)| seconds >= *unit);
    let shown = units.iter().skip(first.unwrap_or(3)).take(2);
    let mut rest = seconds;
    let mut words = Vec::with_capacity(2);
    for (name, unit) in shown {
        let count = rest / unit;
        rest %= unit;
        if count > 0 || words.is_empty() {
            words.push(format!("{count}{name}"));
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_largest_units_are_shown() {
        for (seconds, shown) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m 1s"),
            (3_600, "1h"),
            (7_505, "2h 5m"),
            (3_659, "1h"),
            (90_000, "1d 1h"),
            (86_400 * 9 + 60, "9d"),
        ] {
            let end = Timestamp::from_second(seconds).unwrap();
            assert_eq!(span(Timestamp::UNIX_EPOCH, end), shown);
        }
    }
}
