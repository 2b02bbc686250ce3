//! Text from outside, made fit for a message.

use std::fmt;

/// As much of a claim as a message repeats, in bytes.
const LONGEST: usize = 200;

/// Text that may not be trusted: shown in quotes, with control characters escaped, and cut.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0;
        let shown = text
            .get(..text.floor_char_boundary(LONGEST))
            .unwrap_or_default();
        write!(f, "\"{}", shown.escape_debug())?;
        f.write_str(if shown.len() < text.len() {
            "…\""
        } else {
            "\""
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_long_text_is_cut_between_characters() {
        assert_eq!(Quoted("a\n\"b\"").to_string(), r#""a\n\"b\"""#);
        let long = "ä".repeat(150);
        assert_eq!(
            Quoted(&long).to_string(),
            format!("\"{}…\"", "ä".repeat(100))
        );
    }
}
